{{/* Labels of every object. */}}
{{- define "timetracker-pipelines.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What all jobs of a pipeline have. */}}
{{- define "timetracker-pipelines.defaults" -}}
{{- if .Values.environment.requirements -}}
environment:
  {{- toYaml .Values.environment | nindent 2 }}
{{- else -}}
image: {{ .Values.image }}
{{- end }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
pod:
  nodeSelector:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end }}

{{/* A Postgres 16 of the job's own. */}}
{{- define "timetracker-pipelines.postgres" -}}
services:
  - name: postgres
    postgres: {version: "16"}
{{- end }}

{{/* Tests of one lane: counted, their raw coverage data kept, the lane's own percentage told. */}}
{{- define "timetracker-pipelines.lane" -}}
reports: [JUnit, Coverage]
run: |
  python -m pytest -m {{ .marker | quote }} --tb=short \
    --cov={{ .root.Values.coverage.source }} --cov-report="xml:$REPORTS/coverage.xml" --junitxml "$REPORTS/junit.xml"
{{- end }}

{{/* The combined report of the raw data, and its upload. */}}
{{- define "timetracker-pipelines.coverage" -}}
- name: coverage-report
  {{- with .needs }}
  needs: [{{ . }}]
  {{- end }}
  timeout: 5m
  coverageReport:
    threshold: {{ .root.Values.coverage.threshold }}
{{- with .root.Values.codecov }}
{{- if .enabled }}
- name: codecov-upload
  needs: [coverage-report]
  {{- if $.root.Values.environment.requirements }}
  image: {{ $.root.Values.image }}
  {{- end }}
  timeout: 5m
  codecovUpload:
    failOnError: {{ .failOnError }}
    {{- with .tokenSecret }}
    tokenSecretRef:
      name: {{ . }}
    {{- end }}
    {{- with .flags }}
    flags:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
{{- end }}
{{- end }}
