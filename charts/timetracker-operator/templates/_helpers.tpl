{{- define "timetracker-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "timetracker-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "timetracker-operator.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "timetracker-operator.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "timetracker-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "timetracker-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "timetracker-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "timetracker-operator.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "timetracker-operator.labels" -}}
{{ include "timetracker-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "timetracker-operator.image" -}}
{{- if .image.digest }}
{{- printf "%s@%s" .image.repository .image.digest }}
{{- else }}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) }}
{{- end }}
{{- end }}

{{- /* The configuration file: what follows from other values, then what stands in `config`. */ -}}
{{- define "timetracker-operator.config" -}}
{{- if .Values.config.watchNamespaces }}
{{- fail "write watchNamespaces at the top level of the values: the permissions follow it" }}
{{- end }}
{{- $derived := dict "images" (dict "agent" (include "timetracker-operator.image" (dict "root" . "image" .Values.agentImage))) }}
{{- if .Values.watchNamespaces }}
{{- $_ := set $derived "watchNamespaces" .Values.watchNamespaces }}
{{- end }}
{{- if .Values.priorityClass.enabled }}
{{- $_ := set $derived "priorityClassName" "timetracker-ci" }}
{{- end }}
{{- if .Values.artifacts.enabled }}
{{- $url := printf "http://timetracker-artifacts.%s:8080" .Release.Namespace }}
{{- $_ := set $derived "artifacts" (dict "url" $url "tokenFile" "/etc/timetracker/artifacts/token") }}
{{- end }}
{{- if .Values.trustedCA.configMap }}
{{- $_ := set $derived "trustedCaFile" (printf "/etc/timetracker/trusted-ca/%s" .Values.trustedCA.key) }}
{{- end }}
{{- toYaml (mustMergeOverwrite $derived (deepCopy .Values.config)) }}
{{- end }}

{{- /* What the operator may do in a namespace that it watches. docs/security.md says why for each. */ -}}
{{- define "timetracker-operator.rules" -}}
- apiGroups: [timetracker.dev]
  resources: [timetrackerreleases, pipelines, sourcerepositories]
  verbs: [get, list, watch]
- apiGroups: [timetracker.dev]
  resources: [pipelineruns]
  verbs: [get, list, watch, patch, delete]
- apiGroups: [timetracker.dev]
  resources: [timetrackerreleases/status, pipelineruns/status, sourcerepositories/status]
  verbs: [patch, update]
- apiGroups: [timetracker.dev]
  resources: [timetrackerreleases/finalizers, pipelines/finalizers, pipelineruns/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, get, list, watch, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [apps]
  resources: [deployments, statefulsets, controllerrevisions]
  verbs: [create, get, list, watch, patch, delete]
- apiGroups: [""]
  resources: [services, serviceaccounts, configmaps, persistentvolumeclaims]
  verbs: [create, get, list, watch, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
  verbs: [create, get, list, watch, patch, delete]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, list, patch]
{{- end }}

{{- define "timetracker-operator.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "timetracker-operator.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}
