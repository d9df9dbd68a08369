"""A sweep on a cluster of this machine: how much of it is spent on members."""

import daml

SHORT = {"steps": 1000, "passes": 1, "epochs": 2, "hidden": 16, "skip": 100}


class Sweep:
    """Members that share the workers."""

    params = [0, 1, 2]  # 0: in this process, without a cluster
    param_names = ["workers"]
    number, repeat, warmup_time = 1, 1, 0
    timeout = 600

    def time_members(self, workers):
        daml.sweep({"max_variance": [1.0, 2.0]}, seeds=2, fixed=SHORT, workers=workers)


class Share:
    """Time of 24 members of some 10 s each, as a part of the time that the workers were held."""

    params = [2]
    param_names = ["workers"]
    timeout = 900
    members, long = 24, {"steps": 20_000, "passes": 1, "epochs": 30, "hidden": 50}

    def track_share(self, workers):
        from time import perf_counter

        grid = {"max_variance": [1.0, 2.0]}
        start = perf_counter()
        result = daml.sweep(grid, seeds=self.members // 2, fixed=self.long, workers=workers)
        return float(result.seconds.sum()) / workers / (perf_counter() - start)
