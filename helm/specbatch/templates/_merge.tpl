{{/*
Strategic merge patch, as specbatch.cluster.manifests.merge: maps are merged, null removes a field, lists of named items are merged by name,
other lists are replaced.
*/}}

{{/* {value: ...} as JSON. Takes base, patch (either may be missing), field (the name under which both stand), keys (merge keys). */}}
{{- define "specbatch.merge" -}}
{{- $base := .base -}}
{{- $keys := .keys -}}
{{- $key := get $keys .field -}}
{{- if and (kindIs "map" $base) (kindIs "map" .patch) -}}
  {{- $merged := omit $base -}}
  {{- range $name, $part := .patch -}}
    {{- if kindIs "invalid" $part -}}
      {{- $_ := unset $merged $name -}}
    {{- else -}}
      {{- $one := dict "patch" $part "field" $name "keys" $keys -}}
      {{- if hasKey $base $name -}}{{- $_ := set $one "base" (index $base $name) -}}{{- end -}}
      {{- $_ := set $merged $name (include "specbatch.merge" $one | fromJson).value -}}
    {{- end -}}
  {{- end -}}
  {{- dict "value" $merged | toJson -}}
{{- else if and $key (kindIs "slice" $base) (kindIs "slice" .patch) -}}
  {{- $places := dict -}}
  {{- range $place, $item := $base -}}
    {{- $_ := set $places (include "specbatch.itemName" (dict "item" $item "key" $key)) $place -}}
  {{- end -}}
  {{- $changed := dict -}}
  {{- $added := list -}}
  {{- range .patch -}}
    {{- $name := include "specbatch.itemName" (dict "item" . "key" $key) -}}
    {{- if and $name (hasKey $places $name) -}}
      {{- $before := get $changed $name | default (index $base (get $places $name)) -}}
      {{- $_ := set $changed $name (include "specbatch.merge" (dict "base" $before "patch" . "field" "" "keys" $keys) | fromJson).value -}}
    {{- else -}}
      {{- $added = append $added (include "specbatch.withoutNulls" (dict "value" .) | fromJson).value -}}
    {{- end -}}
  {{- end -}}
  {{- $items := list -}}
  {{- range $base -}}
    {{- $items = append $items (get $changed (include "specbatch.itemName" (dict "item" . "key" $key)) | default .) -}}
  {{- end -}}
  {{- dict "value" (concat $items $added) | toJson -}}
{{- else -}}
  {{- include "specbatch.withoutNulls" (dict "value" .patch) -}}
{{- end -}}
{{- end -}}

{{/* What names an item of a list, as JSON; nothing where it has no name. */}}
{{- define "specbatch.itemName" -}}
{{- if kindIs "map" .item -}}
  {{- $name := index .item .key -}}
  {{- if not (or (kindIs "invalid" $name) (kindIs "map" $name) (kindIs "slice" $name)) -}}{{- toJson $name -}}{{- end -}}
{{- end -}}
{{- end -}}

{{/* {value: ...} as JSON, without the fields that are null. */}}
{{- define "specbatch.withoutNulls" -}}
{{- $value := .value -}}
{{- if kindIs "map" $value -}}
  {{- $kept := dict -}}
  {{- range $name, $part := $value -}}
    {{- if not (kindIs "invalid" $part) -}}
      {{- $_ := set $kept $name (include "specbatch.withoutNulls" (dict "value" $part) | fromJson).value -}}
    {{- end -}}
  {{- end -}}
  {{- dict "value" $kept | toJson -}}
{{- else if kindIs "slice" $value -}}
  {{- $kept := list -}}
  {{- range $value -}}
    {{- $kept = append $kept (include "specbatch.withoutNulls" (dict "value" .) | fromJson).value -}}
  {{- end -}}
  {{- dict "value" $kept | toJson -}}
{{- else -}}
  {{- dict "value" $value | toJson -}}
{{- end -}}
{{- end -}}
