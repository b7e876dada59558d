"""``omib-spatial call``."""

from pathlib import Path
from typing import Annotated

import typer

from omib_spatial.cli.early import check_out
from omib_spatial.cli.inputs import find_sources, read_slides
from omib_spatial.cli.options import AsJson, Overwrite, Question, Scored, examples, plain_errors
from omib_spatial.cli.outputs import result, speaker, tell, write_slides

EXAMPLES = examples(
    "omib-spatial call scored.h5ad --question part --out called.h5ad",
    "omib-spatial call scored.h5ad --question any --fdr 0.05 --out scored.h5ad --overwrite",
)


def call(
    source: Scored,
    question: Annotated[Question, typer.Option(help="any: is there anything? part: which part is it?")],
    out: Annotated[Path, typer.Option(help="Where to write the slides with their calls: .h5ad or .zarr.")],
    fdr: Annotated[float | None, typer.Option(help="Largest expected share of false calls; any: .1.")] = None,
    miss: Annotated[float | None, typer.Option(help="With part: largest expected share missed.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Call abnormal spots of scored slides again, by another question. Nothing is fitted or scored."""
    with plain_errors():
        sources = find_sources([source])
        if len(sources) > 1:
            raise ValueError(f"{source} holds {len(sources)} slides, which were not scored together: give one file.")
        check_out(out, sources, overwrite)
        for name, share in (("fdr", fdr), ("miss", miss)):
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"--{name} is {share!r}: it is a share, from 0 to 1.")
        if miss is not None and (question is not Question.part or fdr is not None):
            raise ValueError("miss= goes with question='part', and not with fdr=: one of the two is limited.")
        speaker(as_json)(f"Reading {source.name}")
        adata = read_slides(source)
        from omib_spatial import tl

        tl.call(adata, question=question.value, fdr=fdr, miss=miss)
        write_slides(adata, out)
        more = {"input": [str(source)], "question": question.value, "fdr": fdr, "miss": miss, "out": out}
        tell(result(adata, "call", **more), as_json)
