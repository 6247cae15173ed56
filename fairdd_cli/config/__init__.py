"""What a user can say: for each command one frozen configuration, whose fields are its options.

From the fields come the command line, recipes, what files and checkpoints record, the commands that a report
prints, and the tables of the manual. Importing them imports no torch.
"""

from collections.abc import Mapping

from fairdd_cli.config._options import assignments, command_words, option_table, options, record
from fairdd_cli.config.catalogue import ListConfig
from fairdd_cli.config.distill import DistillConfig
from fairdd_cli.config.evaluate import EvaluateConfig
from fairdd_cli.config.import_set import ImportConfig
from fairdd_cli.config.inspect import InspectConfig
from fairdd_cli.config.make_dataset import MakeDatasetConfig
from fairdd_cli.config.report import ReportConfig
from fairdd_cli.config.verify import VerifyConfig

__all__ = [
    "COMMANDS",
    "DistillConfig",
    "EvaluateConfig",
    "ImportConfig",
    "InspectConfig",
    "ListConfig",
    "MakeDatasetConfig",
    "ReportConfig",
    "VerifyConfig",
    "assignments",
    "command_words",
    "option_table",
    "options",
    "record",
]

COMMANDS: Mapping[str, type] = {
    "make-dataset": MakeDatasetConfig,
    "distill": DistillConfig,
    "evaluate": EvaluateConfig,
    "import": ImportConfig,
    "report": ReportConfig,
    "inspect": InspectConfig,
    "verify": VerifyConfig,
    "list": ListConfig,
}
