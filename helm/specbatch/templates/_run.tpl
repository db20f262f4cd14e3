{{/*
A run: its resolved spec, the ConfigMap's content, and the name with the hash of that content. As specbatch.cluster.manifests.job and
names.
*/}}

{{/* {job, name, digest, data: {data, binaryData}, files, labels, podLabels, tables} as JSON; fails where the spec is wrong. */}}
{{- define "specbatch.run" -}}
{{- $tables := include "specbatch.tables" . | fromJson -}}
{{- $job := include "specbatch.resolved" . | fromJson -}}
{{- $files := (include "specbatch.bundledFiles" (dict "job" $job "tables" $tables) | fromJson).files -}}
{{- include "specbatch.check" (dict "root" . "job" $job "files" $files "tables" $tables) -}}
{{- $data := dict "spec.json" (printf "%s\n" (toPrettyJson $job)) -}}
{{- $binary := dict -}}
{{- $root := . -}}
{{- range $files -}}
  {{- $content := include "specbatch.content" (dict "root" $root "path" .path) -}}
  {{- if or .compressed (regexMatch $tables.notInYaml $content) -}}
    {{- $_ := set $binary .key (b64enc $content) -}}
  {{- else -}}
    {{- $_ := set $data .key $content -}}
  {{- end -}}
{{- end -}}
{{- $content := dict "data" $data -}}
{{- if $binary -}}{{- $_ := set $content "binaryData" $binary -}}{{- end -}}
{{- $digest := toJson $content | sha256sum -}}
{{- $cut := trunc (int $tables.runChars) $job.metadata.name | trimAll "-" -}}
{{- $podLabels := merge (dict
  "app.kubernetes.io/name" "specbatch"
  "app.kubernetes.io/instance" $job.metadata.name
  "app.kubernetes.io/version" $tables.version
  "app.kubernetes.io/component" "runner"
  "app.kubernetes.io/part-of" "specbatch"
  "specbatch.dev/run" $job.metadata.name
) $job.metadata.labels -}}
{{- $labels := merge (dict
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version)
) $podLabels -}}
{{- dict
  "job" $job
  "name" (printf "%s-%s" $cut (trunc 10 $digest))
  "digest" $digest
  "content" $content
  "files" $files
  "labels" $labels
  "podLabels" $podLabels
  "tables" $tables | toJson -}}
{{- end -}}

{{/* Labels of what the chart makes besides a run. */}}
{{- define "specbatch.labels" -}}
app.kubernetes.io/name: specbatch
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: specbatch
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* Metadata of what the chart makes besides a run; it goes where the run goes. Takes root, name. */}}
{{- define "specbatch.metadata" -}}
name: {{ toJson .name }}
{{- with (.root.Values.metadata | default dict).namespace }}
namespace: {{ toJson . }}
{{- end }}
labels: {{- include "specbatch.labels" .root | nindent 2 }}
{{- end -}}
