{{/*
What is refused before anything is sent: what would lose results, leak a secret or take privileges. It says so in the words of
specbatch.cluster.manifests.pod_checks and specbatch.api. The API server refuses objects that are not valid, and the runner exits with 64 for every
other rule of the spec; `specbatch validate FILE` knows all of them.
*/}}

{{/* Fails with every problem; writes nothing. Takes root, job, files, tables. */}}
{{- define "specbatch.check" -}}
{{- $given := (include "specbatch.given" . | fromJson).volumes -}}
{{- $found := list
  (include "specbatch.resultProblems" .)
  (include "specbatch.fileProblems" (merge (dict "given" $given) .))
  (include "specbatch.podProblems" .) -}}
{{- $problems := list -}}
{{- range $found -}}
  {{- range splitList "\n" . -}}
    {{- with trim . -}}{{- $problems = append $problems (printf "- %s" .) -}}{{- end -}}
  {{- end -}}
{{- end -}}
{{- if $problems -}}
  {{- printf "\n\n%s: %d problem%s\n%s\n" .job.metadata.name (len $problems) (eq (len $problems) 1 | ternary "" "s") (join "\n" $problems) | fail -}}
{{- end -}}
{{- end -}}

{{- define "specbatch.resultProblems" -}}
{{- $results := .job.spec.results -}}
{{- $volume := .job.spec.job.volumes.results -}}
{{- if not (or $volume $results.publish) }}
spec.job.volumes.results: is not given, and the results would be lost with the pod; set job.volumes.results: {claimName: NAME} (a PersistentVolumeClaim), or results.publish
{{- end }}
{{- if $volume }}
  {{- $folder := include "specbatch.place" $results.dir }}
  {{- $mount := include "specbatch.place" $volume.mountPath }}
  {{- if not (include "specbatch.liesOn" (list $folder $mount)) }}
spec.results.dir: {{ $results.dir }} is {{ $folder }} in the pod, and job.volumes.results is mounted at {{ $mount }}; set results.dir to {{ $mount }}, or volumes.results.mountPath to {{ $folder }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "specbatch.fileProblems" -}}
{{- $all := . -}}
{{- $uri := .job.spec.dataset.uri }}
{{- if contains "://" $uri }}
  {{- $names := $uri | lower | replace "_" "-" }}
  {{- if or (regexMatch "://[^/?#@]*:[^/?#@]*@" $uri) (regexMatch (printf "[?#&;]%s=[^&;#]" .tables.secretParameters) $names) }}
spec.dataset.uri: holds a signature or token, which whoever may read ConfigMaps would see; give the URI without it (s3://, gs://, abfs://) and the credentials in job.secretEnvFrom, or put the file on a volume
  {{- end }}
{{- end }}
{{- range $file := .files }}
  {{- $path := include "specbatch.place" .path }}
  {{- range $all.given }}
    {{- $mount := include "specbatch.place" .mountPath }}
    {{- if and .readOnly (include "specbatch.liesOn" (list $path $mount)) }}
{{ $file.field }}: {{ $file.path }} would be {{ $path }} in the pod, and {{ $mount }} is a read-only volume there; give {{ $path }}, if the file lies on that volume, or put it into another folder here
    {{- end }}
  {{- end }}
{{ include "specbatch.fileProblem" (dict "root" $all.root "file" . "path" .path "tables" $all.tables) }}
{{- end }}
{{- end -}}

{{- define "specbatch.podProblems" -}}
{{- $section := .job.spec.job -}}
{{- $tables := .tables -}}
{{- if not $section.allowPrivilegedPodTemplate }}
{{ include "specbatch.privileges" (dict "part" $section.podTemplate.spec "path" "spec.job.podTemplate.spec" "field" "" "tables" $tables) }}
{{- end }}
{{- range $name, $given := $section.env }}
  {{- $value := regexReplaceAll $tables.references $given "${1}" }}
  {{- $named := and (regexMatch $tables.secretNames $name) (not (regexMatch $tables.harmlessNames $name)) (not (regexMatch $tables.harmlessValues $value)) }}
  {{- if or $named (regexMatch $tables.secretValues $value) }}
spec.job.env.{{ $name }}: looks like a secret, and a spec is stored in plain text; keep it in a Secret, and write secretEnv: { {{- $name }}: {name: my-secret, key: {{ lower $name }}}}
  {{- end }}
{{- end }}
{{- end -}}

{{/* A line for everything in a part of a pod's spec that needs allowPrivilegedPodTemplate. Takes part, path, field (its name), tables. */}}
{{- define "specbatch.privileges" -}}
{{- $tables := .tables -}}
{{- $path := .path -}}
{{- if kindIs "map" .part }}
  {{- range $name, $inner := .part }}
    {{- $kind := get $tables.privilegedFields $name }}
    {{- $removed := and (eq $name "automountServiceAccountToken") (kindIs "invalid" $inner) }}
    {{- if and $kind (or $inner $removed) }}
{{ $path }}.{{ $name }}: {{ get $tables.privileges $kind }}
    {{- else if not (has $name $tables.freeMaps) }}
{{ include "specbatch.privileges" (dict "part" $inner "path" (printf "%s.%s" $path $name) "field" $name "tables" $tables) }}
    {{- end }}
  {{- end }}
{{- else if kindIs "slice" .part }}
  {{- range $index, $inner := .part }}
{{ include "specbatch.privileges" (dict "part" $inner "path" (printf "%s[%d]" $path $index) "field" "" "tables" $tables) }}
  {{- end }}
{{- else if and (has .part $tables.privilegedValues) (has .field (list "type" "procMount" "mountPropagation")) }}
{{ $path }}: {{ $tables.privileges.node }}
{{- end }}
{{- end -}}

{{/* "yes" where a path is a mount or lies below it. Takes a list of both. */}}
{{- define "specbatch.liesOn" -}}
{{- $path := first . -}}
{{- $mount := last . -}}
{{- if or (eq $mount "/") (hasPrefix (printf "%s/" $mount) (printf "%s/" $path)) -}}yes{{- end -}}
{{- end -}}
