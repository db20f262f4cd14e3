{{/*
Files bundled in the ConfigMap, as by specbatch.cluster.manifests.bundled_files. A chart cannot read files of the machine: their content comes by
`files` or `filesBase64` (--set-file); that of job/prompts comes with the chart.
*/}}

{{/* {files: [{path, field, key, compressed}]} as JSON. Takes job, tables. */}}
{{- define "specbatch.bundledFiles" -}}
{{- $dataset := .job.spec.dataset -}}
{{- $named := list (dict "path" $dataset.uri "field" "spec.dataset.uri" "role" "dataset") -}}
{{- if not (regexMatch "^[A-Za-z0-9_-]+$" $dataset.chatTemplate) -}}
  {{- $named = append $named (dict "path" $dataset.chatTemplate "field" "spec.dataset.chatTemplate" "role" "template") -}}
{{- end -}}
{{- $endings := .tables.binaryEndings -}}
{{- $files := list -}}
{{- range $named -}}
  {{- if not (or (contains "://" .path) (hasPrefix "/" .path) (hasPrefix "~" .path)) -}}
    {{- $path := clean .path -}}
    {{- $key := regexReplaceAll "[^-._a-zA-Z0-9]" (base $path) "_" -}}
    {{- $compressed := false -}}
    {{- range $endings -}}{{- if hasSuffix . $path -}}{{- $compressed = true -}}{{- end -}}{{- end -}}
    {{- $files = append $files (dict "path" $path "field" .field "key" (printf "%s-%s" .role (trunc -200 $key)) "compressed" $compressed) -}}
  {{- end -}}
{{- end -}}
{{- dict "files" $files | toJson -}}
{{- end -}}

{{/* A file's content. Takes root, path. */}}
{{- define "specbatch.content" -}}
{{- if hasKey .root.Values.files .path -}}
  {{- index .root.Values.files .path -}}
{{- else if hasKey .root.Values.filesBase64 .path -}}
  {{- index .root.Values.filesBase64 .path | trim | b64dec -}}
{{- else -}}
  {{- .root.Files.Get (printf "files/%s" .path) -}}
{{- end -}}
{{- end -}}

{{/* What is wrong with a file, a line a problem. Takes root, file, tables. */}}
{{- define "specbatch.fileProblem" -}}
{{- $path := .file.path -}}
{{- $elsewhere := "or upload it and give its URI (s3://...), or put it on a volume of job.volumes and give its path there" -}}
{{- $content := include "specbatch.content" . -}}
{{- if not (or (hasKey .root.Values.files $path) (hasKey .root.Values.filesBase64 $path) $content) -}}
  {{- $name := regexReplaceAll "([\\\\.,=\\[\\]{}])" $path "\\${1}" -}}
  {{- $value := regexReplaceAll "([\\\\,])" $path "\\${1}" -}}
  {{- .file.field }}: {{ $path }} is to be bundled with the Job, and a chart cannot read files of this machine; add --set-file {{ if .file.compressed -}}
  'filesBase64.{{ $name }}'=<(base64 -w0 '{{ $path }}'){{ else }}'files.{{ $name }}={{ $value }}'{{ end }}, {{ $elsewhere }}
{{- else if and (hasKey .root.Values.filesBase64 $path) (ne (b64enc $content) (index .root.Values.filesBase64 $path | trim)) -}}
  {{- .file.field }}: filesBase64 has {{ $path }}, but not as base64 on one line; make it by base64 -w0
{{- else if and (not .file.compressed) (ne $content (toJson (dict "text" $content) | fromJson).text) -}}
  {{- .file.field }}: {{ $path }} is not UTF-8 text, and a ConfigMap takes no other; gzip it, {{ $elsewhere }}
{{- end -}}
{{- end -}}
