"""From a file, --set and text of YAML to a spec, or one error with everything that is wrong."""
