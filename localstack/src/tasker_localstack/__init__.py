"""The local AWS environment: LocalStack whose functions are processes, a PostgreSQL with TLS, and the deployment of the topology."""
