{{- define "weir.labels" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "weir.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{- /* Both documents, as the file Weir reads. */}}
{{- define "weir.config" -}}
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
healthzBindAddress: {{ printf "%s:%v" .Values.health.address .Values.health.port | quote }}
metricsBindAddress: {{ printf "%s:%v" .Values.metrics.address .Values.metrics.port | quote }}
{{- with .Values.kubeProxyConfiguration }}
{{ toYaml . }}
{{- end }}
---
apiVersion: weir.proxy/v1alpha1
kind: WeirConfiguration
{{- with .Values.weirConfiguration }}
{{ toYaml . }}
{{- end }}
{{- end }}
