"""What an experiment's store holds: its scores in one Dataset, and as text."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import as_file, files
from typing import Any, cast

import xarray as xr

from daml.errors import InputError
from daml.experiments.known import experiment_of
from daml.labels.arguments import checked
from daml.stores.attributes import GIVEN, Attributes, asked, chosen, class_of_emulator, passes
from daml.stores.opening import loaded

SCORES = ("analysis_rmse", "background_rmse", "mfe", "mfe_reduction", "mfe_map")
"""Of a pass in a twin experiment."""

KEPT = ("innovation_rmse", "held_out_rmse", "horizon_steps", "consistency")
"""Scores that need no truth."""


def published(name: str) -> xr.Dataset:
    """Load measured scores that come with the package; the documentation shows them.

    Parameters
    ----------
    name : str
        "seed_0": the scores of ``daml paper --preset fast --seed 0``. "paper", "innovations" and
        "cycle": results of :func:`daml.sweep` on five seeds, for the paper's loop, the loop with
        B from innovations, and the training through the cycle. "variants": the paper's loop with
        other settings, on three seeds. "ring": ``daml run lorenz96``, on three seeds. "ablation",
        "attribution", "climate" and "ladder": the results of the examples of these names.
        "hidden": no scores, but the model with hidden variables that the example of this name
        trains, for :func:`daml.load_emulator`.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If no scores have this name.

    Examples
    --------
    >>> published("seed_0").analysis_rmse.sizes["iteration"]
    30
    """
    folder = files("daml") / "published"
    names = sorted(file.name.removesuffix(".nc") for file in folder.iterdir())
    if name not in names:
        raise InputError(f"published: {name!r} is unknown; give one of {', '.join(names)}")
    with as_file(folder / f"{name}.nc") as path:
        return xr.load_dataset(path, engine="h5netcdf")


@checked
def is_twin(tree: xr.DataTree) -> bool:
    """Whether an experiment has a truth that its passes were scored against."""
    return "perfect" in tree.children


@checked
def collect(tree: xr.DataTree) -> xr.Dataset:
    """Collect the scores of all passes of an experiment in one Dataset.

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
        ``sensitivity_analysis_rmse`` (model, max_variance), ``beyond_...`` (beyond, ...),
        ``floor_analysis_rmse`` and ``floor_background_rmse`` (filter, record) and
        ``floor_mfe_reduction`` (lead) of the perfect model, where they were asked for.

    Raises
    ------
    InputError
        If there are no such scores.
    """
    groups = passes(tree)
    if not is_twin(tree) or not groups:
        raise InputError(
            "the experiment holds no scores of a twin experiment; give one that 'daml paper' ran, "
            "with one pass at least"
        )
    scored = [loaded(tree, f"{name}/scores", needed=SCORES) for name in groups]
    both = {
        "imperfect": loaded(tree, "imperfect/scores", needed=("mfe_map", *SCORES[:2])),
        "perfect": loaded(tree, "perfect/scores", needed=SCORES[:2]),
    }
    maps = {"imperfect": both["imperfect"].mfe_map}
    bins = [dim for dim in maps["imperfect"].dims if str(dim).endswith("_bin")]
    maps |= {f"{called(tree)}-{_number(groups[at])}": scored[at].mfe_map for at in (0, -1)}
    numbers = xr.DataArray([_number(p) for p in groups], dims="iteration", name="iteration")
    result = xr.concat([s.drop_dims(bins) for s in scored], numbers)
    result["mfe_map"] = xr.concat(maps.values(), xr.DataArray(list(maps), dims="case", name="case"))
    for case, scores in both.items():
        plain = scores.drop_dims(bins, errors="ignore")
        result = result.assign({f"{case}_{name}": plain[name] for name in plain.data_vars})
    if "sensitivity" in tree.children:
        result["sensitivity_analysis_rmse"] = loaded(tree, "sensitivity")["analysis_rmse"]
    if "beyond" in tree.children:
        names = list(tree["beyond"].children)
        wanted = [*SCORES[:2], "mfe_reduction", "seconds"]
        kept = [loaded(tree, f"beyond/{name}/scores", needed=wanted)[wanted] for name in names]
        beyond = xr.concat(kept, xr.DataArray(names, dims="beyond", name="beyond"))
        result = result.assign({f"beyond_{name}": beyond[name] for name in beyond.data_vars})
    if "floor" in tree.children:
        floor = loaded(tree, "floor/scores", needed=SCORES[:2])
        result = result.assign({f"floor_{name}": floor[name] for name in floor.data_vars})
    attrs = Attributes(tree.attrs, "/")
    result.attrs = {"max_variance": attrs.number("max_variance"), "skip": attrs.whole("skip")}
    return result


@checked
def collect_innovations(tree: xr.DataTree) -> xr.Dataset:
    """Collect the scores of all passes that need no truth, from the innovations.

    Returns
    -------
    xarray.Dataset
        ``innovation_rmse`` (iteration); where observations were held out also ``held_out_rmse``
        (iteration, horizon), ``horizon_steps`` (horizon) and ``consistency`` (iteration); those of
        the imperfect model as ``imperfect_...``. The attributes give the name of the emulators and
        the model that was chosen.

    Raises
    ------
    InputError
        If the experiment does not yet have a pass.
    """
    groups = passes(tree)
    if not groups:
        _check_experiment(tree)
        raise InputError("the experiment holds no pass yet; continue with --resume (resume=True)")

    def scores(group: str) -> xr.Dataset:
        found = loaded(tree, f"{group}/scores", needed=("innovation_rmse",))
        return found[[n for n in KEPT if n in found]]

    numbers = xr.DataArray([_number(p) for p in groups], dims="iteration", name="iteration")
    plain = [scores(name).drop_vars("horizon_steps", errors="ignore") for name in groups]
    result = xr.concat(plain, numbers)
    imperfect = scores("imperfect")
    if "horizon_steps" in imperfect:
        result["horizon_steps"] = imperfect["horizon_steps"]
        imperfect = imperfect.drop_vars("horizon_steps")
    result = result.assign({f"imperfect_{name}": imperfect[name] for name in imperfect.data_vars})
    result.attrs = {"emulator": called(tree)}
    if chosen(tree) is not None:
        because = Attributes(tree.attrs, "/").text("chosen_because")
        result.attrs |= {"chosen": chosen(tree), "chosen_because": because}
    return result


def called(tree: xr.DataTree) -> str:
    """Give what the emulators of an experiment are called: by their class."""
    return class_of_emulator(tree) or "LSTM"  # the experiment of a paper has no other


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
        lines.append(row(f"{called(tree)}-{iteration}", part, reductions))
    for dim, group, title in (("beyond", "beyond", "cycle"), ("filter", "floor", "perfect")):
        for name in scores[dim].values if dim in scores.dims else ():
            part = scores.sel({dim: name})
            named = {f"{group}_{kind}_rmse": f"{kind}_rmse" for kind in ("analysis", "background")}
            gains = part["beyond_mfe_reduction"].values.tolist() if dim == "beyond" else []
            lines.append(row(f"{title}, {name}"[:14], part[list(named)].rename(named), gains))
    return "\n".join(lines)


@checked
def innovation_table(tree: xr.DataTree) -> str:
    """Give the RMSE of the innovations as a table of text."""
    found = collect_innovations(tree)
    lines = ["                RMSE of observation minus background"]
    if "held_out_rmse" in found:
        leads = "".join(f"{n:>5} dt" for n in found["horizon_steps"].values)
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
        lines.append(row(f"{called(tree)}-{iteration}", "", found.sel(iteration=iteration)))
    if "chosen" in found.attrs:
        choice = found.attrs["chosen"]
        name = "the model given" if choice == GIVEN else f"{called(tree)}-{choice}"
        lines.append(f"chosen: {name} ({found.attrs['chosen_because']})")
    return "\n".join(lines)


def _check_experiment(tree: xr.DataTree) -> None:
    """Refuse what is no experiment of daml's, such as an analysis."""
    if "daml_version" not in tree.attrs or not {"observations", "member"} & set(tree.children):
        raise InputError(
            "no experiment is there; give the store of 'daml paper', 'daml improve' or 'daml sweep'"
        )


@checked
def overview(tree: xr.DataTree) -> str:
    """Describe the settings, the progress and the scores of an experiment.

    Raises
    ------
    InputError
        If it is no experiment of daml's.
    """
    known = experiment_of(tree)
    if known is not None:
        return "\n".join((*_settings(tree.attrs), known.table(tree)))
    _check_experiment(tree)
    if "member" in tree.children:
        return _sweep_overview(tree)
    done, wanted = len(passes(tree)), asked(tree)
    ended = done == wanted or (wanted == "auto" and chosen(tree) is not None)
    state = "finished" if ended else "continue with --resume"
    apart = ("passes", "observations_sha256", "chosen", "chosen_because")
    lines = _settings({k: v for k, v in tree.attrs.items() if k not in apart})
    lines.append(f"{'passes':<14}{done} of {wanted}: {state}")
    for name in ("observations", "truth", "test/observations", "imperfect"):
        if name in tree:
            sizes = cast("xr.DataTree", tree[name]).to_dataset(inherit=False).sizes
            lines.append(f"{name:<19}" + ", ".join(f"{d} {n}" for d, n in sizes.items()))
    if done:
        lines.append(score_table(tree) if is_twin(tree) else innovation_table(tree))
    return "\n".join(lines)


def _settings(attrs: Mapping[Any, Any]) -> list[str]:
    """Give a line for each setting."""
    width = max(14, *(len(str(name)) + 2 for name in attrs))
    return [f"{name:<{width}}{value}" for name, value in attrs.items()]


def _sweep_overview(tree: xr.DataTree) -> str:
    """Say what a sweep holds and how far it is."""
    keys = sorted(tree["member"].children)
    done = [loaded(tree, f"member/{key}", needed=("error",)) for key in keys]
    failed = sum(bool(member["error"].item()) for member in done)
    state = "finished" if "result" in tree.children else "continue with --resume"
    lines = [f"{name:<16}{value}" for name, value in tree.attrs.items()]
    lines.append(f"{'members':<16}{len(done)} done, {failed} of them failed: {state}")
    if "result" in tree.children:
        sizes = loaded(tree, "result").sizes
        lines.append(f"{'result':<16}" + ", ".join(f"{d} {n}" for d, n in sizes.items()))
    return "\n".join(lines)
