"""Rails configs: NeMo Guardrails' schema, read strictly, with what Railstream adds to it."""

from railstream.config.config_set import ConfigSet
from railstream.config.detection import Detection
from railstream.config.flows import BUILT_IN, BuiltIn, Flow, Kind, Stage
from railstream.config.models import Model
from railstream.config.output_parsers import OUTPUT_PARSERS, Judgement
from railstream.config.prompts import Prompt
from railstream.config.rails import OutputStreaming, Rails
from railstream.config.rails_config import RailsConfig
from railstream.config.serving import Deadlines, Serving

__all__ = [
    "BUILT_IN",
    "OUTPUT_PARSERS",
    "BuiltIn",
    "ConfigSet",
    "Deadlines",
    "Detection",
    "Flow",
    "Judgement",
    "Kind",
    "Model",
    "OutputStreaming",
    "Prompt",
    "Rails",
    "RailsConfig",
    "Serving",
    "Stage",
]
