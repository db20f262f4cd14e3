"""What specbatch is compared with: transformers, and kernels of others."""
