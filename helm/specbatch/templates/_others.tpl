{{/*
Refuses an upgrade to a spec whose Job would find another run's results, before Helm deletes the present Job, as specbatch.cluster.submit does. A
chart sees the cluster in an upgrade and in its server-side dry run; `helm template` does not.
*/}}

{{/* Fails, or writes nothing. Takes root, run. */}}
{{- define "specbatch.refuseOthers" -}}
{{- $run := .run -}}
{{- $tables := $run.tables -}}
{{- $new := $run.job.spec -}}
{{- if .root.Release.IsUpgrade -}}
{{- $namespace := .root.Values.metadata.namespace | default .root.Release.Namespace -}}
{{- range (lookup "v1" "ConfigMap" $namespace "").items -}}
  {{- $labels := .metadata.labels | default dict -}}
  {{- $text := index (.data | default dict) "spec.json" -}}
  {{- if and $text (eq (index $labels "specbatch.dev/run" | default "") $run.job.metadata.name) (ne .metadata.name $run.name) -}}
    {{- $old := ($text | fromJson).spec -}}
    {{- $places := list (list $old.results.name $new.results.name) (list $old.results.publish $new.results.publish) -}}
    {{- if not $new.results.publish -}}
      {{- $places = append $places (list $old.results.dir $new.results.dir) -}}
      {{- $places = append $places (list $old.job.volumes.results $new.job.volumes.results) -}}
    {{- end -}}
    {{- $same := true -}}
    {{- range $places -}}{{- if ne (first . | toJson) (last . | toJson) -}}{{- $same = false -}}{{- end -}}{{- end -}}
    {{- $changed := list -}}
    {{- range $tables.rowSections -}}
      {{- if ne (index $old . | toJson) (index $new . | toJson) -}}{{- $changed = append $changed (printf "spec.%s" .) -}}{{- end -}}
    {{- end -}}
    {{- range $section, $names := $tables.rowFields -}}
      {{- range $names -}}
        {{- if ne (index $old $section . | toJson) (index $new $section . | toJson) -}}{{- $changed = append $changed (printf "spec.%s.%s" $section .) -}}{{- end -}}
      {{- end -}}
    {{- end -}}
    {{- if and $same $changed -}}
      {{- printf "\n\n%s: %s changed: the new Job would find the results of another run, those of Job %s, and fail\n- set another spec.results.name to start anew beside them (--set spec.results.name=%s-2), or another metadata.name\n" $run.job.metadata.name (join ", " $changed) .metadata.name $run.job.metadata.name | fail -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
