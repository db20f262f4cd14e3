{{/* The volumes of a runner's pod, and where they are mounted: as specbatch.cluster.manifests.mounts. */}}

{{/* A path of the pod, absolute and normalised; relative ones are relative to /. */}}
{{- define "specbatch.place" -}}
{{- clean (printf "/%s" .) -}}
{{- end -}}

{{/* {volumes: [...]} as JSON: the spec's volumes by the names that they have in the pod. Takes job. */}}
{{- define "specbatch.given" -}}
{{- $given := .job.spec.job.volumes -}}
{{- $volumes := list -}}
{{- range $field := list "results" "modelCache" "data" -}}
  {{- with index $given $field -}}
    {{- $volumes = append $volumes (merge (dict "name" (kebabcase $field) "path" (printf "spec.job.volumes.%s" $field)) .) -}}
  {{- end -}}
{{- end -}}
{{- range $index, $extra := $given.extra -}}
  {{- $volumes = append $volumes (merge (dict "path" (printf "spec.job.volumes.extra[%d]" $index)) $extra) -}}
{{- end -}}
{{- dict "volumes" $volumes | toJson -}}
{{- end -}}

{{/* {volumes: [...]} as JSON: what the pod's volumes are made of. */}}
{{- define "specbatch.volumes" -}}
{{- $section := .job.spec.job -}}
{{- $volumes := list
  (dict "name" "spec" "configMap" (dict "name" .name))
  (dict "name" "tmp" "emptyDir" dict)
  (dict "name" "cache" "emptyDir" dict)
  (dict "name" "shm" "emptyDir" (dict "medium" "Memory" "sizeLimit" $section.sharedMemory)) -}}
{{- if not $section.volumes.results -}}
  {{- $volumes = append $volumes (dict "name" "results" "emptyDir" dict) -}}
{{- end -}}
{{- range (include "specbatch.given" . | fromJson).volumes -}}
  {{- $volume := dict "name" .name -}}
  {{- if .claimName -}}
    {{- $_ := set $volume "persistentVolumeClaim" (dict "claimName" .claimName) -}}
  {{- else if .hostPath -}}
    {{- $_ := set $volume "hostPath" (dict "path" .hostPath) -}}
  {{- else if hasKey . "emptyDir" -}}
    {{- $_ := set $volume "emptyDir" .emptyDir -}}
  {{- else if .csi -}}
    {{- $csi := omit .csi "secretName" -}}
    {{- with .csi.secretName -}}{{- $_ := set $csi "nodePublishSecretRef" (dict "name" .) -}}{{- end -}}
    {{- $_ := set $volume "csi" $csi -}}
  {{- end -}}
  {{- $volumes = append $volumes $volume -}}
{{- end -}}
{{- dict "volumes" $volumes | toJson -}}
{{- end -}}

{{/* {mounts: [...]} as JSON: where the container has them. */}}
{{- define "specbatch.mounts" -}}
{{- $mounts := list (dict "name" "spec" "mountPath" "/etc/specbatch" "readOnly" true) -}}
{{- range .files -}}
  {{- $mounts = append $mounts (dict "name" "spec" "mountPath" (printf "/%s" .path) "subPath" .key "readOnly" true) -}}
{{- end -}}
{{- $mounts = concat $mounts (list
  (dict "name" "tmp" "mountPath" "/tmp")
  (dict "name" "cache" "mountPath" "/cache")
  (dict "name" "shm" "mountPath" "/dev/shm")) -}}
{{- if not .job.spec.job.volumes.results -}}
  {{- $mounts = append $mounts (dict "name" "results" "mountPath" (include "specbatch.place" .job.spec.results.dir)) -}}
{{- end -}}
{{- range (include "specbatch.given" . | fromJson).volumes -}}
  {{- $mount := dict "name" .name "mountPath" (include "specbatch.place" .mountPath) -}}
  {{- with .subPath -}}{{- $_ := set $mount "subPath" . -}}{{- end -}}
  {{- if .readOnly -}}{{- $_ := set $mount "readOnly" true -}}{{- end -}}
  {{- $mounts = append $mounts $mount -}}
{{- end -}}
{{- dict "mounts" $mounts | toJson -}}
{{- end -}}
