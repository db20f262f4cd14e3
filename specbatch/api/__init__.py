"""The SpecBatchJob v1alpha1 spec: types, defaults, validation, JSON schema. The single source of truth."""
