{{/*
Where pods may go: anywhere but to the addresses where clouds hand out a node's credentials (instance metadata). Pods of the cluster are named as
well: some network plugins do not count them to any block of addresses.
*/}}
{{- define "specbatch.anywhere" -}}
- ipBlock: {cidr: 0.0.0.0/0, except: [169.254.169.254/32]}
- ipBlock: {cidr: "::/0", except: ["fd00:ec2::254/128"]}
- namespaceSelector: {}
{{- end -}}

{{/* Fails where a further egress rule would allow them. Takes rule, path. */}}
{{- define "specbatch.refuseMetadata" -}}
{{- $path := .path -}}
{{- if not .rule.to -}}
  {{- fail (printf "%s has no `to`, and would allow every address, that of the cloud's metadata too: name the destinations" $path) -}}
{{- end -}}
{{- range $number, $peer := .rule.to -}}
  {{- with $peer.ipBlock -}}
    {{- $left := .except | default list -}}
    {{- if and (include "specbatch.holdsMetadata" .cidr) (not (or (has "169.254.169.254/32" $left) (has "fd00:ec2::254/128" $left))) -}}
      {{- fail (printf "%s.to[%d].ipBlock: %s may hold the address where the cloud hands out a node's credentials: add except: [%s]" $path $number .cidr (ternary "fd00:ec2::254/128" "169.254.169.254/32" (contains ":" .cidr))) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* "yes" where a block of addresses may hold 169.254.169.254 or fd00:ec2::254: of those near them too, down to single addresses. */}}
{{- define "specbatch.holdsMetadata" -}}
{{- $parts := splitList "/" (toString .) -}}
{{- $address := first $parts | lower -}}
{{- if contains ":" $address -}}
  {{- $bits := ternary (last $parts) "128" (gt (len $parts) 1) | int -}}
  {{- if or (lt $bits 16) (hasPrefix "fd00" $address) (hasPrefix "::ffff:" $address) -}}yes{{- end -}}
{{- else -}}
  {{- $bits := ternary (last $parts) "32" (gt (len $parts) 1) | int -}}
  {{- $bytes := ternary 4 (ternary 3 (ternary 2 (ternary 1 0 (ge $bits 8)) (ge $bits 16)) (ge $bits 24)) (eq $bits 32) -}}
  {{- $given := slice (splitList "." (printf "%s.x.x.x.x" $address)) 0 $bytes | join "." -}}
  {{- $ours := slice (splitList "." "169.254.169.254") 0 $bytes | join "." -}}
  {{- if eq $given $ours -}}yes{{- end -}}
{{- end -}}
{{- end -}}
