{{/* What a schema cannot say: values that do not go together. */}}
{{- define "notifier.check" -}}
{{- $v := .Values -}}
{{- if and $v.existingSecret $v.secrets -}}
{{ fail "existingSecret and secrets: give one of them" }}
{{- end -}}
{{- if and $v.existingSecret (or $v.postgresql.bundled $v.redis.bundled) -}}
{{ fail "existingSecret: a bundled PostgreSQL or Redis writes its address into the chart's own Secret; give `secrets` in its place, or no bundled server" }}
{{- end -}}
{{- range $server, $name := dict "postgresql" "database_url" "redis" "redis_url" -}}
{{- $bundled := (index $v $server).bundled -}}
{{- if and $bundled (index $v.secrets $name) -}}
{{ fail (printf "secrets.%s and %s.bundled: give one of them" $name $server) }}
{{- end -}}
{{- if and $bundled (not (index $v $server).password) -}}
{{ fail (printf "%s.password is needed by the bundled server: openssl rand -hex 24" $server) }}
{{- end -}}
{{- if not (or $v.existingSecret $bundled (index $v.secrets $name)) -}}
{{ fail (printf "no address of %s: name an existingSecret that has notifier_%s, or set secrets.%s, or (to try it out) %s.bundled" $server $name $name $server) }}
{{- end -}}
{{- end -}}
{{- if and (eq $v.autoscaling.kind "keda") (not $v.autoscaling.prometheus) -}}
{{ fail "autoscaling.prometheus is needed by KEDA: http://prometheus.monitoring:9090" }}
{{- end -}}
{{- if and $v.sandbox.bundled $v.settings.sandbox_url -}}
{{ fail "settings.sandbox_url and sandbox.bundled: give one of them" }}
{{- end -}}
{{- if and $v.api.ingress.enabled (not $v.api.ingress.hosts) -}}
{{ fail "api.ingress.hosts: name at least one" }}
{{- end -}}
{{- end }}
