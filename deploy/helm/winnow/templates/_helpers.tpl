{{/* The chart's own words. Most take a dict: root (the chart's context) and role (router, prefill or decode). */}}

{{- define "winnow.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* What a schema cannot say: values that contradict each other. */}}
{{- define "winnow.check" -}}
{{- range $role := list "router" "prefill" "decode" }}
{{- $scaling := (get $.Values $role).autoscaling }}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) }}
{{- fail (printf "%s.autoscaling: minReplicas %v is above maxReplicas %v" $role $scaling.minReplicas $scaling.maxReplicas) }}
{{- end }}
{{- end }}
{{- if and .Values.tls.enabled (not .Values.tls.certManager.enabled) (not .Values.tls.secretName) }}
{{- fail "tls: name the secret with tls.crt, tls.key and ca.crt (tls.secretName), or let cert-manager make it (tls.certManager.enabled)" }}
{{- end }}
{{- end }}

{{- define "winnow.name" -}}
{{ include "winnow.fullname" .root }}-{{ .role }}
{{- end }}

{{- define "winnow.selector" -}}
app.kubernetes.io/name: winnow
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "winnow.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/name: winnow
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "winnow.roleLabels" -}}
{{ include "winnow.labels" .root }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{/* The name that every part's certificate carries: workers are reached by pod addresses, which none can list. */}}
{{- define "winnow.serverName" -}}
{{ include "winnow.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "winnow.tlsSecret" -}}
{{ .Values.tls.secretName | default (printf "%s-tls" (include "winnow.fullname" .)) }}
{{- end }}

{{- define "winnow.image" -}}
{{- $image := .root.Values.image }}
{{- $variant := ternary "cuda" "cpu" (and (eq .root.Values.device "cuda") (has .role (list "prefill" "decode"))) }}
{{- $image.repository }}:{{ $image.tag | default (printf "%s-%s" .root.Chart.AppVersion $variant) }}
{{- end }}

{{/* The fewest pods that a part has: the autoscaler's least, where there is one. */}}
{{- define "winnow.leastReplicas" -}}
{{- $part := get .root.Values .role }}
{{- if eq .role "router" }}{{ ternary $part.autoscaling.minReplicas $part.replicas $part.autoscaling.enabled }}
{{- else }}{{ ternary $part.replicas $part.autoscaling.minReplicas (eq $part.autoscaling.kind "none") }}{{ end }}
{{- end }}

{{/* Seconds that a part gets, after SIGTERM, to finish what it has. */}}
{{- define "winnow.drainSeconds" -}}
{{- $bounds := .root.Values.bounds }}
{{- if eq .role "router" }}{{ $bounds.requestSeconds }}
{{- else if eq .role "prefill" }}{{ add $bounds.queueSeconds $bounds.prefillSeconds $bounds.transferSeconds }}
{{- else }}
{{- $longest := min $bounds.generationSeconds $bounds.requestSeconds }}
{{- $moves := and (gt (int $bounds.migrateAfterSeconds) 0) (gt (int (include "winnow.leastReplicas" .)) 1) }}
{{- ternary (min $bounds.migrateAfterSeconds $longest) $longest $moves }}
{{- end }}
{{- end }}

{{/* preStop, the drain, and ten seconds to close connections and give memory back. */}}
{{- define "winnow.graceSeconds" -}}
{{ add .root.Values.bounds.endpointSeconds (include "winnow.drainSeconds" .) 10 }}
{{- end }}

{{- define "winnow.probe" -}}
{{- $part := get .root.Values .role }}
{{- if .root.Values.tls.enabled -}}
httpGet:
  path: {{ ternary "/readyz" "/healthz" (eq .service "readiness") }}
  port: http
{{- else -}}
grpc:
  port: {{ $part.port }}
  service: {{ .service }}
{{- end }}
{{- end }}

{{/* A worker serves its port once the model is loaded; a router at once. */}}
{{- define "winnow.probes" -}}
{{- $load := ternary 60 (int .root.Values.model.loadSeconds) (eq .role "router") -}}
startupProbe:
  {{- include "winnow.probe" (merge (dict "service" "liveness") .) | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ max 1 (div (add $load 4) 5) }}
readinessProbe:
  {{- include "winnow.probe" (merge (dict "service" "readiness") .) | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
livenessProbe:
  {{- include "winnow.probe" (merge (dict "service" "liveness") .) | nindent 2 }}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
{{- end }}

{{/* Flags that all three programs have. */}}
{{- define "winnow.commonArgs" -}}
{{- $part := get .root.Values .role }}
- --listen=0.0.0.0:{{ $part.port }}
- --http-listen=0.0.0.0:{{ $part.httpPort }}
- --model={{ .root.Values.model.mountPath }}
- --drain-timeout-s={{ include "winnow.drainSeconds" . }}
- --log-level={{ .root.Values.logLevel }}
- --log-format={{ .root.Values.logFormat }}
{{- if .root.Values.tls.enabled }}
- --tls-cert=/etc/winnow/tls/tls.crt
- --tls-key=/etc/winnow/tls/tls.key
- --tls-ca=/etc/winnow/tls/ca.crt
- --tls-server-name={{ include "winnow.serverName" .root }}
{{- else }}
- --allow-plaintext
{{- end }}
{{- end }}

{{- define "winnow.modelVolume" -}}
{{- $model := .Values.model }}
{{- if eq $model.type "pvc" }}
persistentVolumeClaim:
  claimName: {{ required "model.pvc.claimName: name the claim that holds the model, or choose another model.type" $model.pvc.claimName }}
  readOnly: true
{{- else if eq $model.type "hostPath" }}
hostPath:
  path: {{ required "model.hostPath.path: name the folder that holds the model on every node" $model.hostPath.path }}
  type: Directory
{{- else }}
image:
  reference: {{ required "model.image.reference: name the image that holds the model" $model.image.reference }}
  pullPolicy: {{ $model.image.pullPolicy }}
{{- end }}
{{- end }}

{{/* Every pod: nobody, without a way to the cluster's API. */}}
{{- define "winnow.podDefaults" }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Every container. */}}
{{- define "winnow.noRights" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Everything of a pod but its labels: what the three parts have in common. `args` are the part's own. */}}
{{- define "winnow.podSpec" -}}
{{- $part := get .root.Values .role }}
{{- $values := .root.Values }}
{{- $ranks := int ($part.tensorParallel | default 0) }}
{{- $gpus := ternary $ranks 0 (eq $values.device "cuda") }}
{{- include "winnow.podDefaults" .root }}
terminationGracePeriodSeconds: {{ include "winnow.graceSeconds" . }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
containers:
  - name: {{ .role }}
    image: {{ include "winnow.image" . }}
    imagePullPolicy: {{ $values.image.pullPolicy }}
    command: [{{ eq .role "router" | ternary "winnow-router" (printf "winnow-%s-worker" .role) }}]
    args:
      {{- include "winnow.commonArgs" . | trim | nindent 6 }}
      {{- .args | nindent 6 }}
      {{- with $part.extraArgs }}{{ toYaml . | nindent 6 }}{{ end }}
    ports:
      - {name: grpc, containerPort: {{ $part.port }}}
      - {name: http, containerPort: {{ $part.httpPort }}}
    {{- include "winnow.probes" (pick . "root" "role") | nindent 4 }}
    lifecycle:
      preStop:
        sleep: {seconds: {{ $values.bounds.endpointSeconds }}}
    resources:
      requests: {{- toYaml $part.resources.requests | nindent 8 }}
      limits:
        {{- toYaml $part.resources.limits | nindent 8 }}
        {{- if $gpus }}
        {{ $values.gpuResource }}: {{ $gpus }}
        {{- end }}
    securityContext: {{- include "winnow.noRights" . | nindent 6 }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      {{- if ne $values.model.type "inImage" }}
      - {name: model, mountPath: {{ $values.model.mountPath }}, readOnly: true}
      {{- end }}
      {{- if $values.tls.enabled }}
      - {name: tls, mountPath: /etc/winnow/tls, readOnly: true}
      {{- end }}
      {{- if and (eq .role "router") $part.clientTokens }}
      {{- if $part.clientTokens.secretName }}
      - {name: clients, mountPath: /etc/winnow/clients, readOnly: true}
      {{- end }}
      {{- end }}
      {{- if gt $gpus 1 }}
      - {name: shm, mountPath: /dev/shm}
      {{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 256Mi}
  {{- if ne $values.model.type "inImage" }}
  - name: model
    {{- include "winnow.modelVolume" .root | trim | nindent 4 }}
  {{- end }}
  {{- if $values.tls.enabled }}
  - name: tls
    secret: {secretName: {{ include "winnow.tlsSecret" .root }}, defaultMode: 0440}
  {{- end }}
  {{- if and (eq .role "router") $part.clientTokens }}
  {{- if $part.clientTokens.secretName }}
  - name: clients
    secret: {secretName: {{ $part.clientTokens.secretName }}, defaultMode: 0440}
  {{- end }}
  {{- end }}
  {{- if gt $gpus 1 }}
  # NCCL's.
  - name: shm
    emptyDir: {medium: Memory, sizeLimit: 1Gi}
  {{- end }}
{{- with $values.topologySpread.keys }}
topologySpreadConstraints:
  {{- range . }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "winnow.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- range $name := list "nodeSelector" "tolerations" "affinity" }}
{{- with get $part $name }}
{{ $name }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Whether the pods' number is the autoscaler's. */}}
{{- define "winnow.isScaled" -}}
{{- $scaling := (get .root.Values .role).autoscaling }}
{{- if eq .role "router" }}{{ $scaling.enabled | ternary "yes" "" }}{{ else }}{{ eq $scaling.kind "none" | ternary "" "yes" }}{{ end }}
{{- end }}

{{/* A part's Deployment. Workers with GPUs are replaced one by one in place: there are no spare GPUs to start more on. */}}
{{- define "winnow.deployment" -}}
{{- $part := get .root.Values .role }}
{{- $in_place := and (ne .role "router") (eq .root.Values.device "cuda") }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "winnow.name" . }}
  labels: {{- include "winnow.roleLabels" . | nindent 4 }}
spec:
  {{- if not (include "winnow.isScaled" .) }}
  replicas: {{ $part.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  progressDeadlineSeconds: {{ add (ternary 60 .root.Values.model.loadSeconds (eq .role "router")) (include "winnow.graceSeconds" .) 300 }}
  selector:
    matchLabels: {{- include "winnow.selector" . | nindent 6 }}
  strategy:
    rollingUpdate: {maxSurge: {{ ternary 0 1 $in_place }}, maxUnavailable: {{ ternary 1 0 $in_place }}}
  template:
    metadata:
      labels:
        {{- include "winnow.selector" . | nindent 8 }}
        {{- with .root.Values.podLabels }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- with .root.Values.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "winnow.podSpec" . | trim | nindent 6 }}
{{- end }}
