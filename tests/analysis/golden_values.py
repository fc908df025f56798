#!/usr/bin/env python3
"""Makes golden_values.inc: reference numbers at 30 digits with mpmath, by other routes than the C++ code takes.

    python3 golden_values.py > golden_values.inc        (some minutes; needs mpmath)

Normal models: the signal-first integral with explicit binomial sums. Sphere: the same integral over laws from closed
forms where there are any (d = 3: piecewise polynomials; one key: incomplete beta; two keys: one integral), else from the
characteristic function with mpmath's own 0F1. Best of r sub-blocks: over those laws, every way in which a cluster
falls into them. Intervals: roots of integrated beta densities. Fisher: explicit sums.
"""
import mpmath as mp

mp.mp.dps = 30
inf = mp.inf


def text(x):
    return "-INFINITY" if x == -inf else mp.nstr(x, 19, min_fixed=0, max_fixed=0) if x else "0.0"


def log(x):
    return mp.log(x) if x > 0 else -inf


def log_upper_normal(x):
    return mp.log(mp.erfc(mp.mpf(x) / mp.sqrt(2)) / 2)


def choose(n, k):
    return mp.binomial(n, k)


def binomial_tails(n, k, p, q):
    """P(X >= k), P(X < k) for X ~ Bin(n, p): the smaller one summed, term by term."""
    if n * p < k:
        term = choose(n, k) * mp.mpf(p) ** k * mp.mpf(q) ** (n - k)
        total = term
        i = k
        while i < n and term > total * mp.mpf(10) ** -28:
            term *= mp.mpf(n - i) / (i + 1) * p / q
            total += term
            i += 1
        return total, 1 - total
    total = mp.mpf(0)
    term = choose(n, k - 1) * mp.mpf(p) ** (k - 1) * mp.mpf(q) ** (n - k + 1)
    for i in range(k - 1, -1, -1):
        total += term
        if i:
            term *= mp.mpf(i) / (n - i + 1) * q / p
        if term < total * mp.mpf(10) ** -28:
            break
    return 1 - total, total


def trapezoid(f, low, high, count):
    h = (high - low) / count
    values = [f(low + h * i) for i in range(1, count)]
    return h * mp.fsum(values)


# ---- normal models ---------------------------------------------------------------------------------------------------


def normal_hit(a, r, n_c, slots):
    """Both probabilities; each integral gets its own window around its own peak."""
    def tails(z):
        return binomial_tails(n_c, slots, mp.erfc((a + r * z) / mp.sqrt(2)) / 2, mp.erfc(-(a + r * z) / mp.sqrt(2)) / 2)

    if r == 0:
        miss, hit = tails(mp.mpf(0))
        return hit, miss

    def integral(which):
        grid = [mp.mpf(i) / 4 for i in range(-240, 241)]
        logs = [log(mp.npdf(z)) + log(tails(z)[which]) for z in grid]
        top = max(logs)
        inside = [z for z, l in zip(grid, logs) if l > top - 60]
        f = lambda z: mp.npdf(z) * tails(z)[which]
        # tanh-sinh between places a quarter apart would be slow; the integrand is entire and vanishes at both ends.
        return trapezoid(f, inside[0] - mp.mpf(1) / 4, inside[-1] + mp.mpf(1) / 4, 1200)

    return integral(1), integral(0)


def normal_points():
    points = [  # model, d, B, c, k, m, mu, mu_noise, mu_cluster
        ("gaussian", 64, 16, 64, 9, 1, .9, 0, 0),
        ("gaussian", 64, 16, 1024, 5, 4, .8, 0, .8),
        ("gaussian", 128, 512, 63, 8, 1, .5, 0, 0),
        ("gaussian", 2, 1, 2, 2, 1, .25, 0, 0),
        ("gaussian", 64, 64, 17, 16, 4, .3, .1, -.2),
        ("gaussian", 128, 64, 17, 8, 4, .1, 0, -.4),
        ("gaussian", 4096, 64, 1024, 9, 16, .3, 0, .3),
        ("gaussian", 512, 64, 1000000, 513 - 1, 16, 1, 0, .5),
        ("gaussian", 64, 64, 1000000, 512, 1, .01, 0, 0),
        ("gaussian", 64, 16, 1000, 2, 1, 1, 0, 0),
        ("gaussian", 2048, 32, 64, 5, 8, .9, 0, .9),
        ("gaussian-fixed", 64, 16, 64, 9, 1, .9, 0, 0),
        ("gaussian-fixed", 64, 16, 64, 5, 4, .8, 0, .8),
        ("gaussian-fixed", 32, 8, 64, 3, 8, .4, 0, .4),
        ("gaussian-fixed", 64, 512, 4096, 17, 511, .03, 0, .01),
        ("gaussian-fixed", 64, 512, 64, 9, 500, .3, 0, .005),
        ("gaussian-fixed", 128, 64, 100000, 65, 32, .2, 0, .1),
        ("gaussian-fixed", 256, 128, 512, 3, 20, .9, 0, .45),
        ("gaussian-fixed", 64, 64, 17, 8, 8, .1, 0, -.3),
        ("gaussian-fixed", 64, 64, 1000000, 512, 32, .1, 0, .01),
    ]
    for model, d, b, c, k, m, mu, mun, muc in points:
        delta = (mp.mpf(mu) - mun) + (m - 1) * (mp.mpf(muc) - mun)
        a = delta * mp.sqrt(mp.mpf(d) / b)
        r = mp.mpf(1) if model == "gaussian" else mp.sqrt(mp.mpf(b - m) / b)
        hit, miss = normal_hit(a, r, c - 1, k - 1)
        yield model, d, b, c, k, m, mu, mun, muc, log(hit), log(miss)


# ---- law of the affinity sum -----------------------------------------------------------------------------------------


def key_density(d, t):
    return (1 - t * t) ** (mp.mpf(d - 3) / 2) / mp.beta(mp.mpf(1) / 2, mp.mpf(d - 1) / 2)


def one_key_tail(d, gap):
    if d == 2:
        return mp.acos(1 - mp.mpf(gap)) / mp.pi
    b = mp.mpf(d - 1) / 2
    return mp.betainc(b, b, 0, mp.mpf(gap) / 2, regularized=True)


def uniform_sum(r, gap):
    """d = 3: tail and density of the sum of r uniforms on [-1, 1], at upper gap `gap`; exact."""
    with mp.workdps(80):
        gap = mp.mpf(gap)
        tail = mp.fsum((-1) ** j * choose(r, j) * (gap - 2 * j) ** r for j in range(r + 1) if gap > 2 * j)
        density = mp.fsum((-1) ** j * choose(r, j) * (gap - 2 * j) ** (r - 1) for j in range(r + 1) if gap > 2 * j)
        return tail / mp.mpf(2) ** r / mp.factorial(r), density / mp.mpf(2) ** r / mp.factorial(r - 1)


def two_keys(d, gap):
    """One integral over the angle of the first key; d = 2 has its density in closed form (an elliptic integral)."""
    gap = mp.mpf(gap)
    x = 2 - gap
    norm = mp.beta(mp.mpf(1) / 2, mp.mpf(d - 1) / 2)
    cuts = sorted({mp.mpf(0), mp.pi, *[mp.acos(c) for c in (x - 1, x + 1) if -1 < c < 1]})

    def rest_tail(y):
        return 1 if y <= -1 else 0 if y >= 1 else one_key_tail(d, 1 - y)

    def rest_density(y):
        return key_density(d, y) if abs(y) < 1 else 0

    tail = mp.quad(lambda f: mp.sin(f) ** (d - 2) / norm * rest_tail(x - mp.cos(f)), cuts)
    if d == 2:
        return tail, mp.ellipk(1 - x * x / 4) / mp.pi ** 2
    return tail, mp.quad(lambda f: mp.sin(f) ** (d - 2) / norm * rest_density(x - mp.cos(f)), cuts)


def by_transform(d, r, gap):
    """Inversion on a vertical line with copies of the law one whole support apart (their tails are known exactly)."""
    gap = mp.mpf(gap)
    x = r - gap
    moment = lambda th: mp.hyp0f1(mp.mpf(d) / 2, th * th / 4)
    rho = x / r
    sd = mp.sqrt(mp.mpf(r) / d)
    theta = max(rho * (d - rho ** 2) / (1 - rho ** 2), 1 / sd)
    m0 = moment(theta)
    spread = mp.sqrt(r * mp.diff(lambda t: mp.log(moment(t)), theta, 2))
    period = min(mp.mpf(2 * r) * mp.mpf("1.03"), spread * (16 + 80 / mp.sqrt(r * (d - 1) / mp.mpf(2))))
    h = 2 * mp.pi / period
    tail = 1 / (2 * theta)
    density = mp.mpf(1) / 2
    k = quiet = 0
    while quiet < 6:
        k += 1
        th = mp.mpc(theta, k * h)
        c = (moment(th) / m0) ** r * mp.expj(-k * h * x)
        density += c.real
        tail += (c / th).real
        quiet = quiet + 1 if abs(c) < mp.mpf(10) ** -18 else 0
    scale = m0 ** r * mp.exp(-theta * x) * h / mp.pi
    copies = 1 / mp.expm1(theta * period) if x - period < -6 * sd else 0
    return tail * scale - copies, density * scale


def sum_law(d, r, gap):
    """Tail and density at any gap in (0, 2r)."""
    if gap > r:
        tail, density = sum_law(d, r, 2 * r - gap)
        return 1 - tail, density
    if r == 1:
        return one_key_tail(d, gap), key_density(d, 1 - mp.mpf(gap))
    if d == 3 and r <= 32:
        return uniform_sum(r, gap)
    if r == 2 and d < 20:
        return two_keys(d, gap)
    return by_transform(d, r, gap)


def law_points():
    for d, r, gaps in [
        (2, 1, (1e-9, .3, 1.)), (2, 2, (1e-6, .5, 1.999)), (3, 2, (.01, 1.5)), (3, 3, (.1, 2., 2.7)), (3, 7, (.5, 3.3, 6.9)),
        (3, 11, (1e-3, 5.5, 10.)), (3, 12, (1e-3, 6.5, 12.)), (3, 30, (1., 12.5, 29.)), (4, 2, (.25, 1.75)),
        (8, 2, (1e-3, 1.2)), (9, 1, (1e-5, .8)), (12, 2, (.1, 1.9)), (15, 2, (.1, 1.9)), (26, 1, (.2, .95)),
        (64, 1, (1e-5, .3, 1.)), (64, 2, (.01, 1.3)), (64, 16, (.01, 5., 14., 16.)), (64, 64, (40., 60.)),
        (128, 512, (300., 440., 500.)), (256, 4096, (3900., 4090.)), (5, 8, (.5, 6.)), (2, 24, (4., 16.)),
        (64, 65536, (64000., 65500.)),
    ]:
        for gap in gaps:
            tail, density = sum_law(d, r, gap)
            yield d, r, gap, log(tail), log(density)


# ---- sphere ----------------------------------------------------------------------------------------------------------


def sphere_hit(d, b, n_c, slots, m, c):
    """Signal first. Smooth laws: trapezoid on the window; rough ones: mpmath's tanh-sinh between the rough points."""
    r = b - m
    c = mp.mpf(c)

    def tails(y):
        x = c + y
        if x >= b:
            return mp.mpf(0), mp.mpf(1)
        upper = sum_law(d, b, b - x)[0]
        return binomial_tails(n_c, slots, upper, 1 - upper)

    if r == 0:
        miss, hit = tails(mp.mpf(0))
        return hit, miss
    density = lambda y: sum_law(d, r, min(r - y, r + y))[1]
    if (d - 1) * r < 24:
        cuts = {mp.mpf(-r), mp.mpf(r)}
        for law, shift in ((r, 0), (b, -c)):
            for j in range(law + 1):
                y = law - 2 * j + shift
                if -r < y < r:
                    cuts.add(mp.mpf(y))
        cuts = sorted(cuts)
        with mp.workdps(20):
            return tuple(mp.quad(lambda y: density(y) * tails(y)[which], cuts) for which in (1, 0))
    sd = mp.sqrt(mp.mpf(r) / d)
    grid = [y for y in (sd * i for i in range(-40, 41)) if -r < y < r]
    coarse = [[density(y) * t for t in tails(y)] for y in grid]
    smaller = 0 if sum(v[0] for v in coarse) < sum(v[1] for v in coarse) else 1  # 0: misses are rarer
    top = max(v[smaller] for v in coarse)
    inside = [y for y, v in zip(grid, coarse) if v[smaller] > top * mp.exp(-40)]
    low = max(mp.mpf(-r), inside[0] - sd)
    high = min(mp.mpf(r), inside[-1] + sd)
    value = trapezoid(lambda y: density(y) * tails(y)[smaller], low, high, 160)
    return (1 - value, value) if smaller == 0 else (value, 1 - value)


def sphere_points():
    points = [  # d, B, c, k, m, mu, mu_cluster
        (64, 16, 64, 9, 1, .9, 0), (64, 16, 64, 5, 4, .8, .8), (32, 8, 64, 5, 4, .8, .8), (128, 64, 512, 8, 1, .9, 0),
        (64, 128, 128, 8, 96, .5, .05), (256, 32, 1000, 3, 8, .7, .5), (64, 4, 4096, 17, 2, .9, .4),
        (16, 16, 32, 4, 4, .1, -.3), (64, 8, 100, 4, 8, .3, .2), (40, 1, 50, 3, 1, .4, 0),
        (3, 1, 10, 3, 1, .5, 0), (3, 2, 10, 3, 1, .5, 0), (3, 4, 20, 2, 2, .75, .5), (3, 3, 6, 6, 1, 1, 0),
        (2, 2, 10, 3, 1, .5, 0), (2, 1, 10, 2, 1, .99, 0), (5, 2, 40, 2, 1, .875, 0), (3, 6, 1000, 9, 3, 1, .9),
    ]
    for d, b, c, k, m, mu, muc in points:
        hit, miss = sphere_hit(d, b, c - 1, k - 1, m, mp.mpf(mu) + (m - 1) * mp.mpf(muc))
        yield d, b, c, k, m, mu, muc, log(hit), log(miss)


# ---- best of r sub-blocks --------------------------------------------------------------------------------------------


def cluster_ways(keys, r, others):
    """Every list of how many of the other cluster tokens each sub-block holds, the needle's first, with its weight."""
    ways = [((), mp.mpf(1))]
    for number in range(r):
        slots = keys - 1 if number == 0 else keys
        ways = [(way + (a,), weight * choose(slots, a)) for way, weight in ways
                for a in range(min(slots, others - sum(way)) + 1)]
    total = choose(keys * r - 1, others)
    grouped = {}
    for way, weight in ways:
        if sum(way) == others:
            key = (way[0],) + tuple(sorted(way[1:]))
            grouped[key] = grouped.get(key, 0) + weight / total
    return grouped


def submean_hit(d, b, r, n_c, slots, m, mu, muc):
    """Over the signal's score, each way by itself; a sub-block without free keys gives a fixed score, a term alone."""
    keys = b // r
    mu, muc = mp.mpf(mu), mp.mpf(muc)
    ways = [([(keys - 1 - way[0], mu + way[0] * muc)] + [(keys - a, a * muc) for a in way[1:]], weight)
            for way, weight in cluster_ways(keys, r, m - 1).items()]

    def law(block, s):
        free, fixed = block
        x = s - fixed
        if x >= free:
            return mp.mpf(1), mp.mpf(0)
        if x <= -free:
            return mp.mpf(0), mp.mpf(0)
        upper, density = sum_law(d, free, free - x)
        return 1 - upper, density

    def outcomes(s):
        below = law((keys, mp.mpf(0)), s)[0] ** r
        if below == 1:
            return mp.mpf(0), mp.mpf(1)
        return binomial_tails(n_c, slots, 1 - below, below) if below else (mp.mpf(1), mp.mpf(0))

    miss = hit = mp.mpf(0)
    blocks = {block for way, _ in ways for block in way} | {(keys, mp.mpf(0))}
    fixed_of = lambda way: max([fixed for free, fixed in way if free == 0], default=-inf)
    for way, weight in ways:
        s = fixed_of(way)
        if s > -inf:
            weight *= mp.fprod(law(block, s)[0] for block in way if block[0])
            miss += weight * outcomes(s)[0]
            hit += weight * outcomes(s)[1]

    def density(s):
        total = mp.mpf(0)
        laws = {block: law(block, s) for block in blocks}
        for way, weight in ways:
            if s > fixed_of(way):
                below = mp.fprod(laws[block][0] for block in way)
                total += weight * mp.fsum(laws[block][1] * below / laws[block][0] for block in way if laws[block][0])
        return total

    cuts = set()
    for free, fixed in blocks:
        cuts |= {fixed - free + 2 * j for j in range(free + 1)}
        sd = mp.sqrt(mp.mpf(free) / d)
        cuts |= {fixed + 2 * i * sd for i in range(-6, 7) if abs(2 * i * sd) < free}
    cuts = sorted(cuts)
    with mp.workdps(20):
        return tuple(part + mp.quad(lambda s: density(s) * outcomes(s)[which], cuts, maxdegree=7)
                     for part, which in ((hit, 1), (miss, 0)))


def submean_points():
    points = [  # d, B, r, c, k, m, mu, mu_cluster
        (64, 16, 16, 64, 5, 1, .2, 0), (64, 16, 16, 64, 5, 3, .25, .2), (16, 8, 8, 30, 3, 2, .5, .6),
        (3, 4, 2, 20, 3, 1, .5, 0), (3, 4, 2, 20, 3, 2, .5, .25), (3, 6, 3, 10, 2, 4, .75, -.125),
        (3, 6, 2, 40, 9, 3, .3, .4), (3, 8, 2, 12, 3, 8, .5, .125),
    ]
    for d, b, r, c, k, m, mu, muc in points:
        hit, miss = submean_hit(d, b, r, c - 1, k - 1, m, mu, muc)
        yield d, b, r, c, k, m, mu, muc, log(hit), log(miss)


# ---- intervals -------------------------------------------------------------------------------------------------------


def beta_tail_root(a, b, level):
    """x with I_x(a, b) = level for level << 1/2, the density integrated directly (betainc is slow at large a, b)."""
    logc = mp.loggamma(a + b) - mp.loggamma(a) - mp.loggamma(b)
    mean = mp.mpf(a) / (a + b)
    sd = mp.sqrt(mean * (1 - mean) / (a + b + 1))

    def tail(x):
        density = lambda t: mp.exp(logc + (a - 1) * mp.log(t) + (b - 1) * mp.log1p(-t))
        cuts = [max(mp.mpf(0), x - sd * s) for s in (40, 20, 10, 5, 2, 1, .5, 0)]
        return mp.quad(density, sorted(set(cuts)))

    low, high = max(mean - 30 * sd, mean * mp.mpf(10) ** -13), mean
    for _ in range(90):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) < level else (low, middle)
    return (low + high) / 2


def interval_points():
    for x, n, alpha in [(0, 1, .05), (0, 10 ** 12, 1e-6), (1, 10, .05), (3, 10, .05), (10, 10, .01), (50, 1000, 1e-9),
                        (10 ** 6, 10 ** 12, 1e-6), (5 * 10 ** 11, 10 ** 12, .05), (7, 10 ** 12, .05)]:
        half = mp.mpf(alpha) / 2
        low = mp.mpf(0) if x == 0 else half ** (mp.mpf(1) / n) if x == n else beta_tail_root(x, n - x + 1, half)
        high = mp.mpf(1) if x == n else 1 - half ** (mp.mpf(1) / n) if x == 0 else 1 - beta_tail_root(n - x, x + 1, half)
        yield x, n, alpha, low, high


def band_points():
    for x, n, factor in [(0, 10 ** 12, 10), (3, 10, 8), (10, 10, 100), (10 ** 6, 10 ** 12, 1e4), (5 * 10 ** 11, 10 ** 12, 8)]:
        p = mp.mpf(x) / n
        loss = lambda q: x * (mp.log(p / q) if x else 0) + (n - x) * (mp.log((1 - p) / (1 - q)) if n - x else 0) - mp.log(factor)
        def root(a, b):
            for _ in range(140):
                middle = (a + b) / 2
                a, b = (middle, b) if loss(middle) < 0 else (a, middle)
            return (a + b) / 2
        tiny = mp.mpf(10) ** -28
        yield x, n, factor, root(p, tiny) if x else mp.mpf(0), root(p, 1 - tiny) if x < n else mp.mpf(1)


def two_sided_points():
    for x, n, p in [(0, 10, mp.mpf("1e-3")), (3, 10, mp.mpf("0.2")), (12, 10 ** 6, mp.mpf("3e-6")), (10, 10, mp.mpf("0.9")),
                    (40, 10 ** 9, mp.mpf("1e-8")), (999990, 10 ** 6, 1 - mp.mpf("3e-6")), (7, 10 ** 12, mp.mpf("1e-12"))]:
        upper = binomial_tails(n, x, p, 1 - p)[0] if x else mp.mpf(1)
        lower = binomial_tails(n, x + 1, p, 1 - p)[1] if x < n else mp.mpf(1)
        yield x, n, mp.log(p), mp.log1p(-p), min(mp.mpf(1), 2 * min(upper, lower))


def fisher_points():
    lb = lambda n, k: mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1)
    for a, n1, b, n2 in [(3, 10, 7, 12), (0, 5, 5, 5), (1000, 10 ** 6, 1100, 10 ** 6), (50, 10 ** 12, 20, 10 ** 12),
                         (2010000, 4000000, 2000000, 4000000), (5000000, 10 ** 7, 5003000, 10 ** 7),
                         (0, 10 ** 12, 10, 10 ** 9), (20, 30, 2, 40)]:
        m = a + b
        if mp.mpf(a) / n1 < mp.mpf(b) / n2:
            a, n1, b, n2 = b, n2, a, n1
            swapped = True
        else:
            swapped = False
        first = mp.exp(lb(n1, a) + lb(n2, b) - lb(n1 + n2, m))
        term = total = first
        i = a
        while i < min(n1, m) and term > total * mp.mpf(10) ** -25:
            term *= mp.mpf(m - i) * (n1 - i) / (mp.mpf(i + 1) * (n2 - m + i + 1))
            total += term
            i += 1
        p = min(mp.mpf(1), 2 * min(total, 1 - total + first))
        yield (b, n2, a, n1, p) if swapped else (a, n1, b, n2, p)


def table(struct, name, rows):
    print(f"constexpr {struct} {name}[] = {{")
    for row in rows:
        cells = [f'"{v}"' if isinstance(v, str) else text(v) if isinstance(v, mp.mpf) else repr(v) for v in row]
        print("    {" + ", ".join(cells) + "},", flush=True)
    print("};")


if __name__ == "__main__":
    print("// Made by golden_values.py; do not edit.")
    ends = (-8., -1., -1e-9, 0., 1e-3, 1., 5., 11.99, 12., 12.5, 37., 100., 1e4)
    table("NormalTail", "normal_tails", ((x, log_upper_normal(x)) for x in ends))
    table("NormalHit", "normal_hits", normal_points())
    table("SumLaw", "sum_laws", law_points())
    table("ClopperPearson", "clopper_pearsons", interval_points())
    table("LikelihoodBand", "likelihood_bands", band_points())
    table("TwoSided", "two_sideds", two_sided_points())
    table("Fisher", "fishers", fisher_points())
    table("SphereHit", "sphere_hits", sphere_points())
    table("SubmeanHit", "submean_hits", submean_points())
