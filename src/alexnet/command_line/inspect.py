"""`alexnet inspect LINEAGE [--against OTHER]`."""

from collections.abc import Sequence

from alexnet.command_line.words import Result, parser
from alexnet.network.lineages import LINEAGES, lineage
from alexnet.network.listing import listing, summary, totals
from alexnet.runtime.errors import UsageError
from alexnet.training.comparison import compare
from alexnet.training.recipes import RECIPES


def run(words: Sequence[str]) -> Result:
    """Show a lineage's layers, or tell two apart."""
    known = parser("inspect", "A lineage's layers, or every difference between two.")
    known.add_argument("lineage", nargs="?", help="a lineage; none lists them")
    known.add_argument("--against", metavar="OTHER", help="every difference from another lineage, in words")
    options = known.read(words)
    if options.against and not options.lineage:
        raise UsageError(f"--against: which lineage? alexnet inspect LINEAGE --against {options.against}")
    if options.lineage is None:
        for each in LINEAGES.values():
            print(f"{each.name:24} {totals(each)['parameters']:>11,}  {each.summary}")
        return {"lineages": list(LINEAGES)}
    one = lineage(options.lineage)
    if not options.against:
        print(listing(one))
        return summary(one)
    other = lineage(options.against)
    found = compare(RECIPES[one.name], RECIPES[other.name])
    for difference in found:
        print(f"{difference.what}\n    {one.name}: {difference.one}\n    {other.name}: {difference.other}")
    print(f"{len(found)} differences")
    return {"differences": [vars(each) for each in found], "lineage": one.name, "against": other.name}
