"""A lineage's layer table, for people and for programs."""

from typing import Any

from alexnet.network.lineages import Lineage


def totals(lineage: Lineage) -> dict[str, int]:
    """Parameters, multiply-adds for one image, and neurons as the paper counts them."""
    rows = lineage.table()
    return {
        "parameters": sum(row.parameters for row in rows),
        "multiply_adds": sum(row.multiply_adds for row in rows),
        "neurons": sum(row.neurons for row in rows),
    }


def summary(lineage: Lineage) -> dict[str, Any]:
    """What `alexnet inspect --json` prints."""
    layers = [
        {
            "name": row.layer.name,
            "kind": type(row.layer).__name__,
            "output": list(row.output),
            "weights": row.weights,
            "biases": row.biases,
            "multiply_adds": row.multiply_adds,
            "neurons": row.neurons,
        }
        for row in lineage.table()
    ]
    return {"lineage": lineage.name, "input": list(lineage.input), **totals(lineage), "layers": layers}


def listing(lineage: Lineage) -> str:
    """The layer table as text: a line for each layer, the totals last."""
    lines = [
        f"{lineage.name}: {lineage.summary}\n",
        f"{'layer':12}{'output':>16}{'parameters':>14}{'multiply-adds':>16}{'neurons':>10}",
    ]
    for row in lineage.table():
        shape = " x ".join(str(side) for side in (row.output if row.output[1:] != (1, 1) else row.output[:1]))
        numbers = (row.parameters, row.multiply_adds, row.neurons)
        shown = [f"{number:,}" if row.layer.learns else "" for number in numbers]
        lines.append(f"{row.layer.name:12}{shape:>16}{shown[0]:>14}{shown[1]:>16}{shown[2]:>10}")
    every = totals(lineage)
    lines.append(f"{'all':28}{every['parameters']:>14,}{every['multiply_adds']:>16,}{every['neurons']:>10,}")
    return "\n".join(lines)
