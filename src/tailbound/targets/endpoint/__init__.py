"""The target `openai:MODEL`: any server with an OpenAI-compatible interface.

settings    where the server is, the key, what to spend
client      one request, with retries
probe       what the server honours, found out before it is trusted
target      the `Target`
"""

from tailbound.targets.endpoint.settings import EndpointSettings
from tailbound.targets.endpoint.target import EndpointTarget, load

__all__ = ["EndpointSettings", "EndpointTarget", "load"]
