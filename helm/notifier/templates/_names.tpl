{{/* Names, labels, image, addresses. */}}

{{- define "notifier.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* Short enough that the longest part (-worker-bulk-desktop) still fits into a label. */}}
{{- define "notifier.fullname" -}}
{{- $name := include "notifier.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{/* Of the service's own pods; bundled servers have a name of their own. Takes (dict "root" $ "component" "api"). */}}
{{- define "notifier.selector" -}}
app.kubernetes.io/name: {{ include "notifier.name" .root }}{{ with .part }}-{{ . }}{{ end }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "notifier.labels" -}}
{{ include "notifier.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: notifier
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "notifier.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "notifier.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "notifier.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{- define "notifier.secretName" -}}
{{ default (include "notifier.fullname" .) .Values.existingSecret }}
{{- end }}

{{- define "notifier.sandboxUrl" -}}
{{- if .Values.sandbox.bundled -}}
http://{{ include "notifier.fullname" . }}-sandbox:8025
{{- else -}}
{{ default "" .Values.settings.sandbox_url }}
{{- end -}}
{{- end }}

{{/* 1000000 is 1e+06 to a template, and no number to the service. */}}
{{- define "notifier.plain" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end }}

{{/* Every setting that is no secret, as the environment has it. */}}
{{- define "notifier.environment" -}}
{{- range $name, $value := omit .Values.settings "sandbox_url" }}
NOTIFIER_{{ upper $name }}: {{ include "notifier.plain" $value | quote }}
{{- end }}
{{- with include "notifier.sandboxUrl" . }}
NOTIFIER_SANDBOX_URL: {{ . | quote }}
{{- end }}
NOTIFIER_SECRETS_DIR: /etc/notifier/secrets
NOTIFIER_METRICS_HOST: 0.0.0.0
NOTIFIER_METRICS_PORT: "9100"
NOTIFIER_METRICS_DIR: /tmp/metrics
{{- range $name, $pool := .Values.pools }}
NOTIFIER_{{ upper $name }}_CONCURRENCY: {{ include "notifier.plain" $pool.concurrency | quote }}
{{- end }}
{{- with .Values.files }}
{{- if .fcm.secret }}
NOTIFIER_FCM_SERVICE_ACCOUNT_FILE: /etc/notifier/files/fcm/{{ .fcm.key }}
{{- end }}
{{- if .vapid.secret }}
NOTIFIER_VAPID_PRIVATE_KEY_FILE: /etc/notifier/files/vapid/{{ .vapid.key }}
{{- end }}
{{- if .sources.secret }}
NOTIFIER_SOURCES_FILE: /etc/notifier/files/sources/{{ .sources.key }}
{{- end }}
{{- end }}
{{- end }}

{{/* What stands in the Secret, if the chart makes it. */}}
{{- define "notifier.secretData" -}}
{{- $full := include "notifier.fullname" . -}}
{{- range $name, $value := .Values.secrets }}
notifier_{{ $name }}: {{ $value | quote }}
{{- end }}
{{- if .Values.postgresql.bundled }}
notifier_database_url: postgresql://notifier:{{ .Values.postgresql.password | urlquery }}@{{ $full }}-postgresql:5432/notifier
{{- end }}
{{- if .Values.redis.bundled }}
notifier_redis_url: redis://:{{ .Values.redis.password | urlquery }}@{{ $full }}-redis:6379/0
{{- end }}
{{- end }}
