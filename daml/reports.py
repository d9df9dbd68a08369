"""What an experiment's store holds: its scores in one Dataset, and as text."""

from __future__ import annotations

from typing import cast

import xarray as xr

from daml.arguments import checked
from daml.errors import InputError
from daml.opening import loaded


@checked
def is_twin(tree: xr.DataTree) -> bool:
    """Whether an experiment has a truth that its passes were scored against."""
    return "perfect" in tree.children


@checked
def passes_of(tree: xr.DataTree) -> list[str]:
    """Give the groups of the passes that an experiment holds, in order."""
    names = tree["iteration"].children if "iteration" in tree.children else ()
    return [f"iteration/{name}" for name in sorted(names)]


@checked
def collect(tree: xr.DataTree) -> xr.Dataset:
    """Give the scores of all passes of an experiment in one Dataset.

    Parameters
    ----------
    tree : xarray.DataTree
        An experiment of :func:`daml.paper.run`, finished or not.

    Returns
    -------
    xarray.Dataset
        ``analysis_rmse``, ``background_rmse`` (record, iteration), ``mfe``, ``mfe_reduction``
        (iteration, lead), ``mfe_map`` (case, lead, x0_bin, x2_bin), ``seconds`` (iteration); the
        same of the imperfect and the perfect model as ``imperfect_...`` and ``perfect_...``; and
        ``sensitivity_analysis_rmse`` (model, max_variance) and ``beyond_...`` (beyond, ...), where
        they were asked for.

    Raises
    ------
    InputError
        If there are no such scores.
    """
    passes = passes_of(tree)
    if not is_twin(tree) or not passes:
        raise InputError(
            "the experiment holds no scores of a twin experiment; give one that 'daml paper' ran, "
            "with LSTM-0 at least"
        )
    scored = [loaded(tree, f"{name}/scores") for name in passes]
    both = {case: loaded(tree, f"{case}/scores") for case in ("imperfect", "perfect")}
    maps = {"imperfect": both["imperfect"].mfe_map}
    maps |= {f"LSTM-{_number(passes[at])}": scored[at].mfe_map for at in (0, -1)}
    numbers = xr.DataArray([_number(p) for p in passes], dims="iteration", name="iteration")
    result = xr.concat([s.drop_dims(["x0_bin", "x2_bin"]) for s in scored], numbers)
    result["mfe_map"] = xr.concat(maps.values(), xr.DataArray(list(maps), dims="case", name="case"))
    for case, scores in both.items():
        plain = scores.drop_dims(["x0_bin", "x2_bin"], errors="ignore")
        result = result.assign({f"{case}_{name}": plain[name] for name in plain.data_vars})
    if "sensitivity" in tree.children:
        result["sensitivity_analysis_rmse"] = loaded(tree, "sensitivity")["analysis_rmse"]
    if "beyond" in tree.children:
        names = list(tree["beyond"].children)
        found = [loaded(tree, f"beyond/{name}/scores") for name in names]
        kept = [s[["analysis_rmse", "background_rmse", "mfe_reduction", "seconds"]] for s in found]
        beyond = xr.concat(kept, xr.DataArray(names, dims="beyond", name="beyond"))
        result = result.assign({f"beyond_{name}": beyond[name] for name in beyond.data_vars})
    result.attrs = {k: tree.attrs[k] for k in ("max_variance", "skip")}
    return result


@checked
def collect_innovations(tree: xr.DataTree) -> xr.Dataset:
    """Give what the innovations of all passes say, without any truth.

    Returns
    -------
    xarray.Dataset
        ``innovation_rmse`` (iteration); where observations were held out also ``held_out_rmse``
        (iteration, lead) and ``consistency`` (iteration); the same of the model given as
        ``imperfect_...``. attrs say which pass was chosen.

    Raises
    ------
    InputError
        If not even LSTM-0 is there.
    """
    passes = passes_of(tree)
    if not passes:
        raise InputError("the experiment holds no pass yet; go on with --resume")

    def scores(group: str) -> xr.Dataset:
        found = loaded(tree, f"{group}/scores")
        return found[[n for n in ("innovation_rmse", "held_out_rmse", "consistency") if n in found]]

    numbers = xr.DataArray([_number(p) for p in passes], dims="iteration", name="iteration")
    result = xr.concat([scores(name) for name in passes], numbers)
    imperfect = scores("imperfect")
    result = result.assign({f"imperfect_{name}": imperfect[name] for name in imperfect.data_vars})
    result.attrs = {k: tree.attrs[k] for k in ("chosen", "chosen_because") if k in tree.attrs}
    return result


def _number(group: str) -> int:
    return int(group.rpartition("/")[2])


@checked
def score_table(tree: xr.DataTree) -> str:
    """Give the scores as a table of text."""
    scores = collect(tree)
    lines = [
        "                 RMSE of the analysis   RMSE of the background   MFE reduction (%), test",
        "                   train      test         train      test      "
        + "".join(f"{n:>6} dt"[-7:] for n in scores["lead_steps"].values),
    ]

    def row(name: str, part: xr.Dataset, reductions: list[float]) -> str:
        rmse = [
            f"{float(part[f'{kind}_rmse'].sel(record=r)):10.4f}"
            for kind in ("analysis", "background")
            for r in ("train", "test")
        ]
        return f"{name:<14}{rmse[0]}{rmse[1]}    {rmse[2]}{rmse[3]}      " + "".join(
            f"{value:7.1f}" for value in reductions
        )

    for case in ("imperfect", "perfect"):
        named = {f"{case}_{kind}_rmse": f"{kind}_rmse" for kind in ("analysis", "background")}
        part = scores[list(named)].rename(named)
        lines.append(row(f"{case} model", part, [0.0] * 4 if case == "imperfect" else []))
    for iteration in scores["iteration"].values:
        part = scores[["analysis_rmse", "background_rmse"]].sel(iteration=iteration)
        reductions = scores["mfe_reduction"].sel(iteration=iteration).values.tolist()
        lines.append(row(f"LSTM-{iteration}", part, reductions))
    for name in scores["beyond"].values if "beyond" in scores.dims else ():
        part = scores.sel(beyond=name)
        named = {f"beyond_{kind}_rmse": f"{kind}_rmse" for kind in ("analysis", "background")}
        renamed = part[list(named)].rename(named)
        lines.append(
            row(f"cycle, {name[:7]}", renamed, part["beyond_mfe_reduction"].values.tolist())
        )
    return "\n".join(lines)


@checked
def innovation_table(tree: xr.DataTree) -> str:
    """Give the RMSE of the innovations as a table of text."""
    found = collect_innovations(tree)
    lines = ["                RMSE of observation minus background"]
    if "held_out_rmse" in found:
        leads = "".join(f"{n:>5} dt" for n in found["lead_steps"].values)
        lines = [
            "                innovation   held-out innovations (sd of obs. error)   consistency",
            f"                      RMSE   {leads}   with B + R",
        ]

    def row(name: str, prefix: str, part: xr.Dataset) -> str:
        line = f"{name:<16}{float(part[prefix + 'innovation_rmse']):10.4f}"
        if f"{prefix}held_out_rmse" in part:
            ahead = part[f"{prefix}held_out_rmse"].values
            line += "   " + "".join(f"{value:8.3f}" for value in ahead)
        if f"{prefix}consistency" in part:
            line += f"{float(part[f'{prefix}consistency']):13.3f}"
        return line

    lines.append(row("model given", "imperfect_", found))
    for iteration in found["iteration"].values:
        lines.append(row(f"LSTM-{iteration}", "", found.sel(iteration=iteration)))
    if "chosen" in found.attrs:
        lines.append(f"chosen: LSTM-{found.attrs['chosen']} ({found.attrs['chosen_because']})")
    return "\n".join(lines)


@checked
def overview(tree: xr.DataTree) -> str:
    """Say what an experiment holds, how far it is, and its scores.

    Raises
    ------
    InputError
        If it is no experiment of daml's.
    """
    if "daml_version" not in tree.attrs or not {"observations", "member"} & set(tree.children):
        raise InputError(
            "no experiment is there; give the store of 'daml paper', 'daml improve' or 'daml sweep'"
        )
    if "member" in tree.children:
        return _sweep_overview(tree)
    done, asked = len(passes_of(tree)), tree.attrs["passes"]
    ended = done == asked or (asked == "auto" and "chosen" in tree.attrs)
    state = "finished" if ended else "go on with --resume"
    known = ("passes", "observations_sha256", "chosen", "chosen_because")
    settings = {k: v for k, v in tree.attrs.items() if k not in known}
    lines = [f"{name:<14}{value}" for name, value in settings.items()]
    lines.append(f"{'passes':<14}{done} of {asked}: {state}")
    for name in ("observations", "truth", "test/observations", "imperfect"):
        if name in tree:
            sizes = cast("xr.DataTree", tree[name]).to_dataset(inherit=False).sizes
            lines.append(f"{name:<19}" + ", ".join(f"{d} {n}" for d, n in sizes.items()))
    if done:
        lines.append(score_table(tree) if is_twin(tree) else innovation_table(tree))
    return "\n".join(lines)


def _sweep_overview(tree: xr.DataTree) -> str:
    """Say what a sweep holds and how far it is."""
    done = [loaded(tree, f"member/{key}") for key in sorted(tree["member"].children)]
    failed = sum(bool(member["error"].item()) for member in done)
    state = "finished" if "result" in tree.children else "go on with --resume"
    lines = [f"{name:<16}{value}" for name, value in tree.attrs.items()]
    lines.append(f"{'members':<16}{len(done)} done, {failed} of them failed: {state}")
    if "result" in tree.children:
        sizes = loaded(tree, "result").sizes
        lines.append(f"{'result':<16}" + ", ".join(f"{d} {n}" for d, n in sizes.items()))
    return "\n".join(lines)
