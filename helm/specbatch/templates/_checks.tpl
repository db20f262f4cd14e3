{{/*
What would go wrong in a pod, found before anything is sent to a cluster: as specbatch.cluster.manifests: pod_checks.py, and of the rules between
fields those that decide what the objects are. `specbatch validate FILE` knows all of them.
*/}}

{{/* Fails with every problem; writes nothing. Takes root, job, files, tables. */}}
{{- define "specbatch.check" -}}
{{- $given := (include "specbatch.given" . | fromJson).volumes -}}
{{- $found := list
  (include "specbatch.resultProblems" .)
  (include "specbatch.volumeProblems" (dict "given" $given "tables" .tables))
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
{{- $folder := include "specbatch.place" $results.dir -}}
{{- if not (or $volume $results.publish) }}
spec.job.volumes.results: is not given, and the results would be lost with the pod; set job.volumes.results: {claimName: NAME} (a PersistentVolumeClaim), or results.publish
{{- end }}
{{- if contains "://" $results.dir }}
spec.results.dir: {{ $results.dir }} is object storage, where nothing can be appended; give a folder here, and the URI in results.publish
{{- else if hasPrefix "~" $results.dir }}
spec.results.dir: {{ $results.dir }} means nothing in a pod; give a path such as /results
{{- else if $volume }}
  {{- $mount := include "specbatch.place" $volume.mountPath }}
  {{- if not (include "specbatch.liesOn" (list $folder $mount)) }}
spec.results.dir: {{ $results.dir }} is {{ $folder }} in the pod, and job.volumes.results is mounted at {{ $mount }}; set results.dir to {{ $mount }}, or volumes.results.mountPath to {{ $folder }}
  {{- end }}
  {{- if and (hasKey $volume "emptyDir") (not $results.publish) }}
spec.job.volumes.results: an emptyDir is deleted with the pod, and the results with it; use claimName, or set results.publish
  {{- end }}
{{- end }}
{{- end -}}

{{- define "specbatch.volumeProblems" -}}
{{- $ours := concat .tables.ownVolumes (list "results" "model-cache" "data") -}}
{{- $closed := concat .tables.ownPlaces (list "/") -}}
{{- $taken := dict -}}
{{- $names := list -}}
{{- range .given }}
  {{- $sources := pick . "claimName" "hostPath" "emptyDir" "csi" }}
  {{- $mount := include "specbatch.place" .mountPath }}
  {{- if ne (len $sources) 1 }}
{{ .path }}: takes exactly one of claimName, hostPath, emptyDir and csi, but {{ if $sources }}{{ keys $sources | sortAlpha | join " and " }} are{{ else }}none is{{ end }} given
  {{- end }}
  {{- if has $mount $closed }}
{{ .path }}.mountPath: nothing may be mounted at {{ $mount }}; choose another mountPath
  {{- else if hasKey $taken $mount }}
{{ .path }}.mountPath: {{ $mount }} is taken by {{ get $taken $mount }}; mount one of them elsewhere
  {{- end }}
  {{- $_ := set $taken $mount .path }}
  {{- if hasPrefix "spec.job.volumes.extra" .path }}
    {{- if has .name $ours }}
{{ .path }}.name: {{ .name }} is a name of specbatch's own; choose another
    {{- else if has .name $names }}
{{ .path }}.name: {{ .name }} is there twice; rename one of them
    {{- end }}
    {{- $names = append $names .name }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "specbatch.fileProblems" -}}
{{- $all := . -}}
{{- $taken := list -}}
{{- $uri := .job.spec.dataset.uri }}
{{- if contains "://" $uri }}
  {{- $names := $uri | lower | replace "_" "-" }}
  {{- if or (regexMatch "://[^/?#@]*:[^/?#@]*@" $uri) (regexMatch (printf "[?#&;]%s=[^&;#]" .tables.secretParameters) $names) }}
spec.dataset.uri: holds a signature or token, which whoever may read ConfigMaps would see; give the URI without it (s3://, gs://, abfs://) and the credentials in job.secretEnvFrom, or put the file on a volume
  {{- end }}
{{- end }}
{{- range $field, $path := dict "spec.dataset.uri" .job.spec.dataset.uri "spec.dataset.chatTemplate" .job.spec.dataset.chatTemplate }}
  {{- if hasPrefix "~" $path }}
{{ $field }}: {{ $path }} is a file of this machine, which pods do not see; give it relative to the current directory, and --set-file its content
  {{- end }}
{{- end }}
{{- range $file := .files }}
  {{- $path := include "specbatch.place" .path }}
  {{- if has $path $taken }}
{{ .field }}: {{ .path }} is the dataset already; name another file
  {{- end }}
  {{- $taken = append $taken $path }}
  {{- $closed := list "/etc/specbatch" }}
  {{- range $all.given }}
    {{- if .readOnly }}{{ $closed = append $closed (include "specbatch.place" .mountPath) }}{{ end }}
  {{- end }}
  {{- range $closed }}
    {{- if include "specbatch.liesOn" (list $path .) }}
{{ $file.field }}: {{ $file.path }} would be {{ $path }} in the pod, and {{ . }} is a read-only volume there; give {{ $path }}, if the file lies on that volume, or put it into another folder here
    {{- end }}
  {{- end }}
{{ include "specbatch.fileProblem" (dict "root" $all.root "file" . "path" .path "tables" $all.tables) }}
{{- end }}
{{- end -}}

{{- define "specbatch.podProblems" -}}
{{- $section := .job.spec.job -}}
{{- $tables := .tables -}}
{{- range $name, $part := $section.podTemplate }}
  {{- if not (has $name (list "metadata" "spec")) }}
spec.job.podTemplate.{{ $name }}: is no part of a pod template; it has metadata and spec
  {{- else if not (kindIs "map" $part) }}
spec.job.podTemplate.{{ $name }}: is not a map; see kubectl explain pod
  {{- end }}
{{- end }}
{{- $spec := $section.podTemplate.spec }}
{{- if kindIs "map" $spec }}
  {{- if hasKey $spec "containers" }}
    {{- $named := kindIs "slice" $spec.containers }}
    {{- if $named }}
      {{- range $spec.containers }}
        {{- if not (kindIs "map" .) }}{{ $named = false }}{{ else if not (kindIs "string" .name) }}{{ $named = false }}{{ end }}
      {{- end }}
    {{- end }}
    {{- if not $named }}
spec.job.podTemplate.spec.containers: is not a list of containers with names; ours is runner
    {{- end }}
  {{- end }}
{{- end }}
{{- if not $section.allowPrivilegedPodTemplate }}
{{ include "specbatch.privileges" (dict "part" $spec "path" "spec.job.podTemplate.spec" "field" "" "tables" $tables) }}
{{- end }}
{{- range $name, $given := $section.env }}
  {{- $value := regexReplaceAll $tables.references $given "" }}
  {{- $named := and (regexMatch $tables.secretNames $name) (not (regexMatch $tables.harmlessNames $name)) (not (regexMatch $tables.harmlessValues $value)) }}
  {{- if or $named (regexMatch $tables.secretValues $value) }}
spec.job.env.{{ $name }}: looks like a secret, and a spec is stored in plain text; keep it in a Secret, and write secretEnv: { {{- $name }}: {name: my-secret, key: {{ lower $name }}}}
  {{- end }}
  {{- if hasKey $section.secretEnv $name }}
spec.job.secretEnv.{{ $name }}: {{ $name }} is in job.env as well; keep one of them
  {{- end }}
{{- end }}
{{- range $part, $amounts := $section.resources }}
  {{- if hasKey $amounts $section.gpuResourceName }}
spec.job.resources.{{ $part }}["{{ $section.gpuResourceName }}"]: GPUs are asked for by placement.gpus; leave this out
  {{- end }}
{{- end }}
{{- if gt (int ($section.parallelism | default 1)) (int $section.completions) }}
spec.job.parallelism: {{ int $section.parallelism }} pods at once, but there are only {{ int $section.completions }} (job.completions); raise job.completions, or leave parallelism out
{{- end }}
{{- end -}}

{{/* A line for everything in a part of a pod's spec that is for allowPrivilegedPodTemplate. Takes part, path, field (its name), tables. */}}
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

{{/* Fails where a ConfigMap would be larger than Kubernetes takes; writes nothing. Takes name, data, binary, tables. */}}
{{- define "specbatch.checkSize" -}}
{{- $total := 0 -}}
{{- $largest := "" -}}
{{- $most := 0 -}}
{{- range $key, $text := .data -}}
  {{- $size := len $text -}}
  {{- $total = add $total $size -}}
  {{- if gt $size (int $most) -}}{{- $largest = $key -}}{{- $most = $size -}}{{- end -}}
{{- end -}}
{{- range $key, $text := .binary -}}
  {{- $size := len (b64dec $text) -}}
  {{- $total = add $total $size -}}
  {{- if gt $size (int $most) -}}{{- $largest = $key -}}{{- $most = $size -}}{{- end -}}
{{- end -}}
{{- if gt (int $total) (int .tables.maxConfigBytes) -}}
  {{- printf "\n\n%s: 1 problem\n- spec: its ConfigMap would hold %d bytes, and Kubernetes takes %d (%s has %d); %s\n" .name (int $total) (int .tables.maxConfigBytes) $largest (int $most) .tables.tooLarge | fail -}}
{{- end -}}
{{- end -}}
