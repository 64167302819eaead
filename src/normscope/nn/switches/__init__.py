"""Changes to a network that go with any normalizer: the failed experiments of "Is Batch Norm unique?", and noise."""

from normscope.nn.switches.catalog import names, switch
from normscope.nn.switches.switch import Switch
from normscope.nn.switches.switched import Switched, apply

__all__ = ["Switch", "Switched", "apply", "names", "switch"]
