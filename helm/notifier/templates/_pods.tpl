{{/* The one form of all the service's pods, and what differs between them. */}}

{{/* Celery's hard limit on a task is 0.8 of the lease (workers/app.py). A worker that may not live longer than that
     after SIGTERM is killed in a call, and its deliveries are `unknown`. */}}
{{- define "notifier.workerGrace" -}}
{{- $lease := default 60 .Values.settings.lease -}}
{{- $grace := default 20 .Values.settings.shutdown_grace -}}
{{ add (max (ceil (mulf $lease 0.8)) (ceil $grace) | int64) 15 }}
{{- end }}

{{/* The API stops within shutdown_grace, after its preStop of 5 s. */}}
{{- define "notifier.apiGrace" -}}
{{ add (ceil (default 20 .Values.settings.shutdown_grace) | int64) 15 }}
{{- end }}

{{- define "notifier.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ include "notifier.plain" . }}
runAsGroup: {{ include "notifier.plain" . }}
fsGroup: {{ include "notifier.plain" . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "notifier.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* What the migration needs of the settings. It runs before the release's ConfigMap is there, or has its new values. */}}
{{- define "notifier.migrationSettings" -}}
- {name: NOTIFIER_SECRETS_DIR, value: /etc/notifier/secrets}
{{- $extra := list }}
{{- range .Values.extraEnv }}
{{- $extra = append $extra .name }}
{{- end }}
{{- range $name, $value := .Values.settings }}
{{- $variable := printf "NOTIFIER_%s" (upper $name) }}
{{- /* A variable that stands twice in a list is refused by server-side apply. extraEnv wins, as it does over a ConfigMap. */}}
{{- if and (or (hasPrefix "database_" $name) (hasPrefix "log_" $name)) (not (has $variable $extra)) }}
- {name: {{ $variable }}, value: {{ include "notifier.plain" $value | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{/* The two addresses that a migration may need, and nothing else of the Secret. Only who has a pooler has the second. */}}
{{- define "notifier.migrationSecret" -}}
projected:
  defaultMode: 0440
  sources:
    - secret:
        name: {{ . }}
        items:
          - {key: notifier_database_url, path: notifier_database_url}
    - secret:
        name: {{ . }}
        optional: true
        items:
          - {key: notifier_database_direct_url, path: notifier_database_direct_url}
{{- end }}

{{/* (dict "root" $ "component" … "command" list "args" list "resources" … "grace" n "ports" bool "probes" text "preStop" n) */}}
{{- define "notifier.podTemplate" -}}
metadata:
  labels:
    {{- include "notifier.labels" . | nindent 4 }}
    {{- with .root.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A changed setting makes new pods; a changed Secret of yours does not: restart them.
    checksum/config: {{ include "notifier.environment" .root | sha256sum }}
    {{- if not .root.Values.existingSecret }}
    checksum/secret: {{ include "notifier.secretData" .root | sha256sum }}
    {{- end }}
    {{- with .root.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "notifier.podSpec" . | nindent 2 }}
{{- end }}

{{- define "notifier.podSpec" -}}
serviceAccountName: {{ default (include "notifier.serviceAccount" .root) .account }}
automountServiceAccountToken: false
# A Service named notifier-metrics would set NOTIFIER_METRICS_PORT to tcp://…, in every pod beside it.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .grace }}
securityContext:
  {{- include "notifier.podSecurity" .root | nindent 2 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if and .spread .root.Values.topologySpread }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "notifier.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- with .restart }}
restartPolicy: {{ . }}
{{- end }}
containers:
  - name: notifier
    image: {{ include "notifier.image" .root }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    command: {{ .command | toJson }}
    args: {{ .args | toJson }}
    {{- if .bare }}
    env:
      {{- include "notifier.migrationSettings" .root | nindent 6 }}
      {{- with .root.Values.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- else }}
    envFrom:
      - configMapRef: {name: {{ include "notifier.fullname" .root }}}
    {{- with .root.Values.extraEnv }}
    env:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- end }}
    {{- with .ports }}
    ports:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .probes }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .preStop }}
    lifecycle:
      # Until every proxy has heard that this pod goes, calls still come.
      preStop: {exec: {command: [sleep, {{ . | quote }}]}}
    {{- end }}
    resources:
      {{- toYaml .resources | nindent 6 }}
    securityContext:
      {{- include "notifier.containerSecurity" .root | nindent 6 }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      - {name: secrets, mountPath: /etc/notifier/secrets, readOnly: true}
      {{- if not .bare }}
      {{- range $name, $file := .root.Values.files }}
      {{- if $file.secret }}
      - {name: {{ $name }}, mountPath: /etc/notifier/files/{{ $name }}, readOnly: true}
      {{- end }}
      {{- end }}
      {{- end }}
      {{- with .root.Values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 256Mi}
  - name: secrets
    {{- $secret := default (include "notifier.secretName" .root) .secret }}
    {{- if .bare }}
    {{- include "notifier.migrationSecret" $secret | nindent 4 }}
    {{- else }}
    secret:
      secretName: {{ $secret }}
      defaultMode: 0440
    {{- end }}
  {{- if not .bare }}
  {{- range $name, $file := .root.Values.files }}
  {{- if $file.secret }}
  - name: {{ $name }}
    secret:
      secretName: {{ $file.secret }}
      defaultMode: 0440
      items:
        - {key: {{ $file.key }}, path: {{ $file.key }}}
  {{- end }}
  {{- end }}
  {{- end }}
  {{- with .root.Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Whoever has no API is asked on its port for metrics. Ready as soon as alive: nobody calls it, but a rollout waits. */}}
{{- define "notifier.quietProbes" -}}
startupProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 5
  failureThreshold: 36
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 10
{{- end }}

{{- define "notifier.metricsPort" -}}
- {name: metrics, containerPort: 9100}
{{- end }}

{{/* The Deployments of the pools: name → pool, lanes (a matcher for metrics), command and args. */}}
{{- define "notifier.workers" -}}
urgent: {pool: urgent, lanes: 'lane=~"urgent.+"', command: [notifier], args: [worker, urgent]}
control: {pool: control, command: [notifier], args: [worker, control]}
{{- if .Values.pools.bulk.perChannel }}
{{- range list "email" "push" "desktop" }}
bulk-{{ . }}:
  pool: bulk
  lanes: 'lane="bulk.{{ . }}"'
  # The word `bulk` is by what metrics know the pool (workers/__init__.py). Urgent first, as `notifier worker bulk` has it.
  command: [celery, -A, workers.app, worker]
  args: [-n, bulk, -Q, "v1.urgent.{{ . }},v1.bulk.{{ . }}", -c, {{ include "notifier.plain" $.Values.pools.bulk.concurrency | quote }}, -O, fair, --without-gossip, --without-mingle]
{{- end }}
{{- else }}
bulk: {pool: bulk, lanes: 'lane=~"bulk.+"', command: [notifier], args: [worker, bulk]}
{{- end }}
{{- end }}
