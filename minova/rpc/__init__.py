"""The messages between services: transport, serializer, clients with pins, servers, dispatch."""
