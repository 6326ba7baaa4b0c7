{{/* By CPU: (dict "root" $ "component" … "scale" {min, max, cpu}). */}}
{{- define "notifier.hpa" }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "notifier.fullname" .root }}-{{ .component }}
  labels:
    {{- include "notifier.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "notifier.fullname" .root }}-{{ .component }}
  # An HPA cannot scale to nothing.
  minReplicas: {{ max 1 (.scale.min | int64) }}
  maxReplicas: {{ include "notifier.plain" .scale.max }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ include "notifier.plain" .scale.cpu }}}
  behavior:
    scaleDown: {stabilizationWindowSeconds: 300}
{{- end }}

{{/* By what waits: (dict "root" $ "component" … "scale" {min, max, age, depth} "lanes" 'lane=~"urgent.+"').
     Both triggers are averages per replica, since KEDA's fallback knows nothing else. */}}
{{- define "notifier.scaledObject" }}
{{- $auto := .root.Values.autoscaling }}
{{- $matchers := .lanes }}
{{- with $auto.matchers }}
{{- $matchers = printf "%s,%s" $matchers . }}
{{- end }}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ include "notifier.fullname" .root }}-{{ .component }}
  labels:
    {{- include "notifier.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    name: {{ include "notifier.fullname" .root }}-{{ .component }}
  pollingInterval: 10
  cooldownPeriod: 300
  minReplicaCount: {{ include "notifier.plain" .scale.min }}
  maxReplicaCount: {{ include "notifier.plain" .scale.max }}
  fallback:
    failureThreshold: 3
    replicas: {{ include "notifier.plain" $auto.fallback }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown: {stabilizationWindowSeconds: 300}
  triggers:
    - type: prometheus
      metricType: AverageValue
      metadata:
        serverAddress: {{ $auto.prometheus | quote }}
        # A lane in which nothing waits has no age.
        query: {{ printf "max(notifier_lane_oldest_age_seconds{%s}) or vector(0)" $matchers | quote }}
        threshold: {{ include "notifier.plain" .scale.age | quote }}
    - type: prometheus
      metricType: AverageValue
      metadata:
        serverAddress: {{ $auto.prometheus | quote }}
        query: {{ printf "sum(notifier_lane_depth{%s,where=\"database\"})" $matchers | quote }}
        threshold: {{ include "notifier.plain" .scale.depth | quote }}
        # No number at all is an error (beat or Prometheus is away), and not an empty queue.
        ignoreNullValues: "false"
{{- end }}
