"""What is said: finds the templates, checks what they are told, and renders them.

In comes a folder (`load`, once at start), then a template with data and a recipient (`check_data` at
intake, `render` at the send). Out comes content for a channel, or an error that names the remedy. A
template is treated as if a stranger had written it: it sees plain data only, and can use neither much
time nor much memory. This room keeps nothing, asks no clock and never touches the network.
"""

from notifier.templating.catalogue import Catalogue, Template, load
from notifier.templating.check import Finding, check
from notifier.templating.names import Extra
from notifier.templating.render import render
from notifier.templating.variables import Variable
from notifier.templating.variables import check as check_data

__all__ = ["Catalogue", "Extra", "Finding", "Template", "Variable", "check", "check_data", "load", "render"]
