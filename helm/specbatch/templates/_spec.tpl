{{/*
The resolved spec: every default filled in, quantities as text, null the same as left out. As specbatch.api does it, by the types in
generated/specbatch.json.
*/}}

{{/* The tables of generated/specbatch.json, as JSON. */}}
{{- define "specbatch.tables" -}}
{{- .Files.Get "generated/specbatch.json" -}}
{{- end -}}

{{/* The resolved SpecBatchJob without its namespace, as JSON. */}}
{{- define "specbatch.resolved" -}}
{{- $types := (include "specbatch.tables" . | fromJson).types -}}
{{- $job := pick .Values "apiVersion" "kind" "metadata" "spec" | deepCopy -}}
{{- include "specbatch.fill" (dict "value" $job "type" "SpecBatchJob" "types" $types) -}}
{{- $_ := unset $job.metadata "namespace" -}}
{{- toJson $job -}}
{{- end -}}

{{/* Fills the defaults of a type into a map, in place; writes nothing. Takes value, type (its name), types. */}}
{{- define "specbatch.fill" -}}
{{- $value := .value -}}
{{- $types := .types -}}
{{- range $name, $field := index $types .type -}}
  {{- if kindIs "invalid" (index $value $name) -}}{{- $_ := unset $value $name -}}{{- end -}}
  {{- if and (hasKey $field "default") (not (hasKey $value $name)) -}}
    {{- $_ := set $value $name (deepCopy $field.default) -}}
  {{- end -}}
  {{- if hasKey $value $name -}}
    {{- $part := index $value $name -}}
    {{- if and $field.text (not (kindIs "string" $part)) -}}
      {{- $_ := set $value $name (toJson $part) -}}
    {{- end -}}
    {{- if $field.texts -}}
      {{- range $key, $amount := $part -}}
        {{- if not (kindIs "string" $amount) -}}{{- $_ := set $part $key (toJson $amount) -}}{{- end -}}
      {{- end -}}
    {{- end -}}
    {{- if $field.type -}}
      {{- include "specbatch.fill" (dict "value" $part "type" $field.type "types" $types) -}}
    {{- end -}}
    {{- if $field.items -}}
      {{- range $part -}}
        {{- include "specbatch.fill" (dict "value" . "type" $field.items "types" $types) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}
