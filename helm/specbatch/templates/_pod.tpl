{{/*
The pod template of a run, as specbatch.cluster.manifests.pod: one container that reads the spec and writes the results. It satisfies the restricted
Pod Security level.
*/}}

{{/* As YAML, with spec.job.podTemplate merged over it. Takes what specbatch.run gives. */}}
{{- define "specbatch.podTemplate" -}}
{{- $base := include "specbatch.basePodTemplate" . | fromYaml -}}
{{- $merged := include "specbatch.merge" (dict "base" $base "patch" .job.spec.job.podTemplate "field" "" "keys" .tables.mergeKeys) | fromJson -}}
{{- toYaml $merged.value -}}
{{- end -}}

{{- define "specbatch.basePodTemplate" -}}
{{- $section := .job.spec.job -}}
{{- $gpus := int .job.spec.placement.gpus -}}
metadata:
  labels: {{- toYaml .podLabels | nindent 4 }}
spec:
  restartPolicy: Never # podFailurePolicy asks for it
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ toJson $section.terminationGracePeriodSeconds }}
  securityContext: {{- toYaml .tables.podSecurityContext | nindent 4 }}
  {{- with $section.serviceAccountName }}
  serviceAccountName: {{ toJson . }}
  {{- end }}
  {{- with $section.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $section.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if or $gpus $section.tolerations }}
  tolerations:
    {{- if $gpus }}
    - {key: {{ toJson $section.gpuResourceName }}, operator: Exists, effect: NoSchedule}
    {{- end }}
    {{- with $section.tolerations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- with $section.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $section.topologySpreadConstraints }}
  topologySpreadConstraints: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $section.runtimeClassName }}
  runtimeClassName: {{ toJson . }}
  {{- end }}
  {{- with $section.priorityClassName }}
  priorityClassName: {{ toJson . }}
  {{- end }}
  containers:
    - name: runner
      {{- $image := $section.image }}
      {{- if and (eq $image .tables.images.runner) (or (eq .job.spec.engine.name "vllm") .job.spec.target.adapter) }}
      {{- $image = .tables.images.vllm }}{{/* the default one has no vLLM */}}
      {{- end }}
      image: {{ toJson $image }}
      imagePullPolicy: {{ $section.imagePullPolicy }}
      command: [python, -m, specbatch.runner, /etc/specbatch/spec.json]
      workingDir: /
      env: {{- toYaml (include "specbatch.env" . | fromJson).env | nindent 8 }}
      {{- with $section.secretEnvFrom }}
      envFrom:
        {{- range . }}
        - secretRef: {name: {{ toJson .name }}{{ if .optional }}, optional: true{{ end }}}
        {{- end }}
      {{- end }}
      {{- $limits := $section.resources.limits }}
      {{- if $gpus }}{{ $limits = merge (dict $section.gpuResourceName (toString $gpus)) $limits }}{{ end }}
      {{- if or $section.resources.requests $limits }}
      resources:
        {{- with $section.resources.requests }}
        requests: {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- with $limits }}
        limits: {{- toYaml . | nindent 10 }}
        {{- end }}
      {{- end }}
      securityContext: {{- toYaml .tables.containerSecurityContext | nindent 8 }}
      terminationMessagePolicy: FallbackToLogsOnError
      volumeMounts: {{- toYaml (include "specbatch.mounts" . | fromJson).mounts | nindent 8 }}
  volumes: {{- toYaml (include "specbatch.volumes" . | fromJson).volumes | nindent 4 }}
{{- end -}}

{{/* {env: [...]} as JSON: variables in order of their names; the spec's own go over ours. */}}
{{- define "specbatch.env" -}}
{{- $section := .job.spec.job -}}
{{- $cache := $section.volumes.modelCache -}}
{{- $ours := dict
  "HF_HOME" "/cache/huggingface"
  "HOME" "/cache"
  "MPLCONFIGDIR" "/cache/matplotlib"
  "PYTHONUNBUFFERED" "1"
  "TORCHINDUCTOR_CACHE_DIR" "/cache/inductor"
  "TRITON_CACHE_DIR" "/cache/triton"
  "USER" "specbatch"
  "XDG_CACHE_HOME" "/cache" -}}
{{- if $cache -}}
  {{- $_ := set $ours "HF_HOME" $cache.mountPath -}}
  {{- if $cache.readOnly -}}{{- $_ := set $ours "HF_HUB_OFFLINE" "1" -}}{{- end -}}
{{- end -}}
{{- if not .job.spec.placement.gpus -}}{{- $_ := set $ours "NVIDIA_VISIBLE_DEVICES" "void" -}}{{- end -}}
{{- range $name, $value := $section.env -}}{{- $_ := set $ours $name $value -}}{{- end -}}
{{- $env := list -}}
{{- range concat (keys $ours) (keys $section.secretEnv) | uniq | sortAlpha -}}
  {{- if hasKey $section.secretEnv . -}}
    {{- $key := index $section.secretEnv . -}}
    {{- if not $key.optional -}}{{- $key = omit $key "optional" -}}{{- end -}}
    {{- $env = append $env (dict "name" . "valueFrom" (dict "secretKeyRef" $key)) -}}
  {{- else -}}
    {{- $env = append $env (dict "name" . "value" (index $ours .)) -}}
  {{- end -}}
{{- end -}}
{{- dict "env" $env | toJson -}}
{{- end -}}
