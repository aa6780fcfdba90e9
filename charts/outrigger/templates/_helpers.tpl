{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}
{{- /* Names, labels and the parts that operator and directory share. */ -}}

{{- /* A cluster has one installation, as it has one set of resources; the operator's roles are bound to these names. */ -}}
{{- define "outrigger.name" -}}outrigger{{- end }}

{{- define "outrigger.labels" -}}
app.kubernetes.io/name: outrigger
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "outrigger.selector" -}}
app.kubernetes.io/name: outrigger
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "outrigger.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* Milliseconds of a duration in ms, s or m. */ -}}
{{- define "outrigger.ms" -}}
{{- if hasSuffix "ms" . -}}
{{ trimSuffix "ms" . }}
{{- else if hasSuffix "s" . -}}
{{ mul (trimSuffix "s" . | int) 1000 }}
{{- else -}}
{{ mul (trimSuffix "m" . | int) 60000 }}
{{- end }}
{{- end }}

{{- /* A role's rules from files/roles.yaml, which is generated from what the parts of the operator declare. */ -}}
{{- define "outrigger.rules" -}}
{{- $roles := .root.Files.Get "files/roles.yaml" | fromYaml }}
{{- toYaml (get (get $roles .scope) .role) }}
{{- end }}

{{- /* Of a pod spec: whence its images come and which nodes may run it: .root, .values (of the part that it is, or that it works for). */ -}}
{{- define "outrigger.place" -}}
nodeSelector: {{- merge (dict) .values.nodeSelector (dict "kubernetes.io/os" "linux") | toYaml | nindent 2 }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Of the pod spec of a hook of Helm, which works for the operator: it must run wherever the operator does. Of the affinity only what concerns
    nodes: the rest goes by pods, and the operator's may be gone. */ -}}
{{- define "outrigger.hookPlace" -}}
{{- include "outrigger.place" (dict "root" . "values" .Values.operator) }}
{{- with .Values.operator.affinity.nodeAffinity }}
affinity:
  nodeAffinity: {{- toYaml . | nindent 4 }}
{{- end }}
{{- end }}

{{- /* The pod of a part of the operator: .root, .component, .values, .roles (what it does), .ports. */ -}}
{{- define "outrigger.deployment" -}}
{{- $name := printf "%s-%s" (include "outrigger.name" .root) .component }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "outrigger.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  replicas: {{ .values.replicas }}
  selector:
    matchLabels:
      {{- include "outrigger.selector" . | nindent 6 }}
  strategy:
    rollingUpdate: { maxSurge: 1, maxUnavailable: 0 }
  template:
    metadata:
      labels:
        {{- include "outrigger.selector" . | nindent 8 }}
        {{- with .values.podLabels }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- with .values.podAnnotations }}
      annotations: {{ toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ $name }}
      {{- include "outrigger.place" (dict "root" .root "values" .values) | nindent 6 }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        seccompProfile: { type: RuntimeDefault }
      {{- /* Beyond the stop: the pause of preStop, and something for the kubelet. */}}
      terminationGracePeriodSeconds: {{ div (add (include "outrigger.ms" .values.stopTimeout | int) 15999) 1000 }}
      containers:
        - name: {{ .component }}
          image: {{ include "outrigger.image" .root }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: [/usr/bin/node, /usr/lib/outrigger/build/ts/operator/src/main.js]
          env:
            - { name: OUTRIGGER_OPERATOR_LOG_LEVEL, value: {{ .values.logLevel | quote }} }
            - { name: OUTRIGGER_OPERATOR_REQUESTS_PER_SECOND, value: {{ .values.requestsPerSecond | int | quote }} }
            - { name: OUTRIGGER_OPERATOR_STOP_TIMEOUT, value: {{ .values.stopTimeout | quote }} }
            {{- toYaml .env | nindent 12 }}
          ports:
            {{- toYaml .ports | nindent 12 }}
          startupProbe:
            httpGet: { path: /livez, port: http }
            periodSeconds: 1
            timeoutSeconds: 2
            # Minutes: on a node that is that busy, beginning again from nothing would take longer still.
            failureThreshold: 180
          livenessProbe:
            httpGet: { path: /livez, port: http }
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet: { path: /readyz, port: http }
            periodSeconds: 2
            timeoutSeconds: 2
          # Calls go on coming until every API server and kube-proxy knows that this pod ends.
          lifecycle: { preStop: { sleep: { seconds: 5 } } }
          resources: {{ toYaml .values.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: { drop: [ALL] }
      {{- with .values.affinity }}
      affinity: {{ toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "outrigger.selector" . | nindent 14 }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "outrigger.labels" .root | nindent 4 }}
{{- if gt (int .values.replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "outrigger.labels" .root | nindent 4 }}
spec:
  minAvailable: 1
  selector:
    matchLabels:
      {{- include "outrigger.selector" . | nindent 6 }}
{{- end }}
{{- range $scope, $roles := .roles }}
{{- range $role := $roles }}
{{- $wide := eq $scope "cluster" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $wide | ternary "ClusterRole" "Role" }}
metadata:
  name: {{ printf "%s-%s" $name $role }}
  {{- if not $wide }}
  namespace: {{ $.root.Release.Namespace }}
  {{- end }}
  labels: {{- include "outrigger.labels" $.root | nindent 4 }}
rules:
  {{- include "outrigger.rules" (dict "root" $.root "scope" $scope "role" $role) | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $wide | ternary "ClusterRoleBinding" "RoleBinding" }}
metadata:
  name: {{ printf "%s-%s" $name $role }}
  {{- if not $wide }}
  namespace: {{ $.root.Release.Namespace }}
  {{- end }}
  labels: {{- include "outrigger.labels" $.root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $wide | ternary "ClusterRole" "Role" }}
  name: {{ printf "%s-%s" $name $role }}
subjects:
  - { kind: ServiceAccount, name: {{ $name }}, namespace: {{ $.root.Release.Namespace }} }
{{- end }}
{{- end }}
{{- end }}
