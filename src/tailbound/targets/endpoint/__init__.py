"""The target `openai:MODEL`: any server with an OpenAI-compatible interface.

settings    where the server is, the key, what to spend
protocol    requests and answers as the servers speak them
answers     the responses of one request, once they are understood
cost        what was asked, what it cost, and the limit
client      one request, with retries
session     many requests at once, on an event loop of their own
probe       what the server honours, found out before it is trusted
adapting    what a refusal names, and how the next request does without it
thoughts    where servers put what a model thought before it replied
extra_body  further parameters of every request
target      the `Target`
"""

from tailbound.targets.endpoint.probe import Capabilities
from tailbound.targets.endpoint.settings import EndpointSettings
from tailbound.targets.endpoint.target import EndpointTarget, load, provider

__all__ = ["Capabilities", "EndpointSettings", "EndpointTarget", "load", "provider"]
