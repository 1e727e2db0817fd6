"""Registry of the tasks. One file per task: its label processor, head, loss and metrics."""

from mmbert.registry import Registry

TASKS = Registry(
    "task",
    {
        "classification": "tasks.classification:Classification",
        "multilabel": "tasks.multilabel:Multilabel",
        "regression": "tasks.regression:Regression",
        "tagging": "tasks.tagging:Tagging",
    },
    group="mmbert.tasks",
)
