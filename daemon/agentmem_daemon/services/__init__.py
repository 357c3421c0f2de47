"""The gRPC services: validate, ask the engine, answer. Errors are raised; the interceptor sends them."""
