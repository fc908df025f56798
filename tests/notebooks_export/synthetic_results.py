"""Writes a results file as the program does, from the gaussian-fixed model: exact misses, binomial counts around them.

Only for tests of the figures: the numbers are true to the model but were never near a router.
"""

import functools
import math
from statistics import NormalDist

import h5py
import numpy as np

NORMAL = NormalDist()
_erfc = np.vectorize(math.erfc, otypes=[float])


def upper_tail(x):
    return 0.5 * _erfc(np.asarray(x) / math.sqrt(2.0))


@functools.lru_cache(maxsize=None)
def exact_miss(head_dim, block_size, candidates, topk, cluster_size, delta_mu_eff):
    """P(at least k - 1 of the c - 1 noise blocks outrank the signal block), signal affinities fixed."""
    routed, noise = topk - 1, candidates - 1
    if routed < 1:
        return 1.0
    if noise < routed:
        return 0.0
    mean = delta_mu_eff * math.sqrt(head_dim / block_size)
    spread = math.sqrt(1.0 - cluster_size / block_size)
    z = np.linspace(-12.0, 12.0, 601)
    p = np.clip(upper_tail(mean + spread * z), 1e-300, 1.0 - 1e-16)
    last = min(noise, routed + 200 + noise // 4)
    tail = np.zeros_like(p)
    for i in range(routed, last + 1):
        log_choose = math.lgamma(noise + 1) - math.lgamma(i + 1) - math.lgamma(noise - i + 1)
        tail += np.exp(log_choose + i * np.log(p) + (noise - i) * np.log1p(-p))
    head = sum(np.exp(math.lgamma(noise + 1) - math.lgamma(i + 1) - math.lgamma(noise - i + 1) + i * np.log(p)
                      + (noise - i) * np.log1p(-p)) for i in range(routed))
    conditional = np.where(head < 0.5, 1.0 - head, np.minimum(tail, 1.0))
    weights = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi) * (z[1] - z[0])
    return float(np.clip(np.sum(weights * conditional), 1e-300, 1.0))


def wilson(misses, trials, z=3.29):
    """Wilson's interval: close to the exact one and enough for a drawing."""
    misses, trials = np.asarray(misses, float), np.asarray(trials, float)
    share, scale = misses / trials, 1.0 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / scale
    return np.where(misses == 0, 0.0, np.maximum(centre - half, 0.0)), np.minimum(centre + half, 1.0)


def grid(head_dims=(32, 64, 128, 256), block_sizes=(16, 32, 64, 128, 256, 512), seq_lens=(8192, 16384, 32768),
         topks=(2, 4, 8), clusters=((1, 0.0), (4, 0.4)), mus=(0.5, 0.8)):
    rows = [dict(model="sphere", head_dim=d, block_size=b, seq_len=n, candidates=n // b - 1, topk=k, cluster_size=m,
                 mu_signal=mu, mu_noise=0.0, mu_cluster=mu_cluster)
            for d in head_dims for b in block_sizes for n in seq_lens for k in topks for m, mu_cluster in clusters
            for mu in mus]
    columns = {name: np.array([row[name] for row in rows], dtype=object if name == "model" else None)
               for name in rows[0]}
    columns["delta_mu_eff"] = columns["mu_signal"] + (columns["cluster_size"] - 1) * columns["mu_cluster"]
    columns["snr"] = columns["delta_mu_eff"] * np.sqrt(columns["head_dim"] / (2.0 * columns["block_size"]))
    columns["reliable_snr"] = np.array([NORMAL.inv_cdf(1.0 - (k - 1) / c) if 0 < k - 1 < c else np.nan
                                        for k, c in zip(columns["topk"], columns["candidates"])])
    columns["pairwise_miss"] = upper_tail(columns["snr"])
    miss = np.array([exact_miss(*row) for row in zip(
        columns["head_dim"], columns["block_size"], columns["candidates"], columns["topk"], columns["cluster_size"],
        columns["delta_mu_eff"])])
    columns["miss_probability"], columns["hit_probability"] = miss, 1.0 - miss
    with np.errstate(divide="ignore"):
        columns["log_miss_probability"] = np.log(miss)
    return columns


def add_counts(columns, prefix, probability, trials, random):
    trials = np.full(len(probability), trials, dtype=np.int64)
    misses = random.binomial(trials, np.nan_to_num(probability, nan=0.5))
    low, high = wilson(misses, trials)
    columns.update({f"{prefix}_trials": trials, f"{prefix}_misses": misses, f"{prefix}_miss": misses / trials,
                    f"{prefix}_miss_low": low, f"{prefix}_miss_high": high})


def by_candidates(columns, random, bins=8):
    """Kernel counts in bins of the number of candidates, and their exact expectation."""
    table = {name: [] for name in ("point", "candidates_low", "candidates_high", "kernel_trials", "kernel_misses",
                                   "kernel_expected_miss")}
    averaged = np.empty(len(columns["head_dim"]))
    for point in range(len(averaged)):
        last = int(columns["candidates"][point])
        edges = sorted({int(round(edge)) for edge in np.geomspace(1, last, bins + 1)} | {last, last + 1})
        weights, values = [], []
        for low, high in zip(edges[:-1], edges[1:]):
            middle = (low + high - 1) // 2
            expected = exact_miss(columns["head_dim"][point], columns["block_size"][point], middle,
                                  columns["topk"][point], columns["cluster_size"][point],
                                  columns["delta_mu_eff"][point])
            trials = 2000 if low == last else 40 * (high - low)
            row = dict(point=point, candidates_low=low, candidates_high=high - 1, kernel_trials=trials,
                       kernel_misses=random.binomial(trials, expected), kernel_expected_miss=expected)
            for name, value in row.items():
                table[name].append(value)
            weights.append(trials)
            values.append(expected)
        averaged[point] = np.average(values, weights=weights)
    table = {name: np.array(values) for name, values in table.items()}
    table["kernel_miss"] = table["kernel_misses"] / table["kernel_trials"]
    table["kernel_miss_low"], table["kernel_miss_high"] = wilson(table["kernel_misses"], table["kernel_trials"])
    return table, averaged


def comparisons(columns):
    """Each observed count against what it should be, with Holm's adjustment."""
    points, kinds, expected, observed, deviates = [], [], [], [], []
    for kind, prefix, truth in (("simulate-theory", "sim", "miss_probability"),
                                ("kernel-theory", "kernel", "kernel_expected_miss")):
        p, trials = columns[truth], columns[f"{prefix}_trials"]
        spread = np.sqrt(np.maximum(trials * p * (1 - p), 1e-12))
        z = np.where(trials * np.minimum(p, 1 - p) > 5, (columns[f"{prefix}_misses"] - trials * p) / spread, 0.0)
        points += list(range(len(p)))
        kinds += [kind] * len(p)
        expected += list(p)
        observed += list(columns[f"{prefix}_miss"])
        deviates += list(z)
    points, kinds, deviates = points + [-1, 0], kinds + ["kernel-theory", "tie-rule"], deviates + [0.5, 0.0]
    expected, observed = expected + [0.5, 0.0], observed + [0.5, 0.0]
    p_values = 2.0 * upper_tail(np.abs(deviates))
    order = np.argsort(p_values)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)), 1.0)
    return {"point": np.array(points), "kind": np.array(kinds, dtype=object), "expected_miss": np.array(expected),
            "observed_miss": np.array(observed), "z": np.array(deviates), "p_value": p_values, "adjusted_p": adjusted}


def write_table(file, group, columns, dimension, attributes=None):
    """One group: a dimension scale and 1-D datasets attached to it."""
    table = file.create_group(group)
    for name, value in (attributes or {}).items():
        table.attrs[name] = value
    length = len(next(iter(columns.values())))
    if dimension not in columns:
        table.create_dataset(dimension, data=np.arange(length))
        table[dimension].make_scale(dimension)
    for name, values in columns.items():
        text = values.dtype.kind == "O"
        data = table.create_dataset(name, data=values, dtype=h5py.string_dtype() if text else None)
        data.attrs["units"] = "1"
        data.attrs["long_name"] = name.replace("_", " ")
        if name.endswith(("_miss_low", "_miss_high")):
            data.attrs["definition"] = "Clopper-Pearson, 99.9 %"
        if name == dimension:
            data.make_scale(dimension)
    for name in columns:
        if name != dimension:
            table[name].dims[0].attach_scale(table[dimension])


def write_results(path, columns=None, groups=("validate",), seed=20260101, schema_version=1):
    """A results file with the groups asked for: theory, simulate, route, validate (with its two side tables), bench."""
    random = np.random.default_rng(seed)
    columns = dict(columns or grid())
    theory = dict(columns)
    routed_too = {"route", "validate"} & set(groups)
    per_candidate, averaged = by_candidates(columns, random) if routed_too else ({}, columns["miss_probability"])
    add_counts(columns, "sim", columns["miss_probability"], 20000, random)
    columns["sim_stop_reason"] = np.array(["trials"] * len(averaged), dtype=object)
    columns["kernel_expected_miss"] = averaged
    add_counts(columns, "kernel", averaged, 4000, random)
    columns["kernel_key_sets"] = np.full(len(averaged), 16)
    columns["kernel_design_effect"] = np.ones(len(averaged))
    simulated = {name: values for name, values in columns.items() if not name.startswith("kernel")}
    routed = {name: values for name, values in columns.items() if not name.startswith("sim")}
    with h5py.File(path, "w") as file:
        for name, value in dict(schema="mobalab results", schema_version=schema_version,
                                command="mobalab validate --config paper.cfg",
                                seed=str(seed), git_commit="0123abcd", build="Release, g++ 12", device="cpu",
                                utc_time="2026-01-01T00:00:00Z").items():
            file.attrs[name] = value
        for group, table in (("theory", theory), ("simulate", simulated), ("route", routed), ("validate", columns)):
            if group in groups:
                write_table(file, group, table, "point", {"confidence": 0.999})
        if "validate" in groups:
            write_table(file, "validate_by_candidates", per_candidate, "row")
            write_table(file, "validate_comparisons", comparisons(columns), "comparison", {"family_alpha": 1e-6})
        if "bench" in groups:
            write_table(file, "bench", bench(), "measurement")
    return path


def bench():
    return {"name": np.array(["route", "attention forward", "attention backward", "gemm"], dtype=object),
            "seconds_median": np.array([0.5, 0.9, 2.1, 0.3]), "seconds_low": np.array([0.49, 0.88, 2.0, 0.29]),
            "seconds_high": np.array([0.52, 0.95, 2.3, 0.31]), "repeats": np.array([7, 7, 7, 7]),
            "gflops": np.array([55.0, 41.0, 33.0, 93.0]), "gbytes_per_second": np.array([3.0, 4.0, 5.0, 6.0]),
            "peer": np.array(["gemm", "gemm", "gemm", ""], dtype=object),
            "ratio_to_peer": np.array([0.59, 0.44, 0.35, np.nan])}
