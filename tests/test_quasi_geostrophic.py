"""The quasi-geostrophic model against analytic solutions, conservation and a plain loop."""

import numpy as np
import pytest
import torch

import daml
from daml.errors import InputError
from daml.labels.space import StateSpace
from daml.models import QuasiGeostrophic
from daml.models.quasi_geostrophic import jacobian, laplacian
from daml.running.cycling.tangents import no_gradient

STILL = {"forcing": 0.0, "biharmonic_friction": 0.0}


def basin(n, seed=0, *, many=()):
    """Give fields (..., y, x) with a border of zeros."""
    return np.pad(
        np.random.default_rng(seed).standard_normal((*many, n - 2, n - 2)),
        [(0, 0)] * len(many) + [(1, 1)] * 2,
    )


def smooth(n):
    """Give two smooth fields in a basin and the product of derivatives a_x b_y - a_y b_x."""
    x, y = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n))
    sin, cos, pi = np.sin, np.cos, np.pi
    a, b = sin(pi * x) * sin(2 * pi * y), sin(3 * pi * x) * sin(pi * y)
    a_x, a_y = pi * cos(pi * x) * sin(2 * pi * y), 2 * pi * sin(pi * x) * cos(2 * pi * y)
    b_x, b_y = 3 * pi * cos(3 * pi * x) * sin(pi * y), pi * sin(3 * pi * x) * cos(pi * y)
    return a, b, (a_x * b_y - a_y * b_x)[1:-1, 1:-1]


def test_the_jacobian_is_that_of_the_derivatives_to_second_order():
    errors = []
    for n in (33, 65):
        a, b, expected = smooth(n)
        errors.append(abs(jacobian(a, b, 1 / (n - 1)) - expected).max())
    assert errors[1] < 0.01 * abs(expected).max()
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def test_the_jacobian_conserves_energy_and_enstrophy():
    a, b = basin(17), basin(17, 1)
    found = jacobian(a, b, 1 / 16)
    size = abs(found).sum()
    for weight in (a[1:-1, 1:-1], b[1:-1, 1:-1]):
        assert abs((weight * found).sum()) < 1e-13 * size
    assert abs((a[1:-1, 1:-1] ** 2 * found).sum()) > 1e-3 * size  # which it does not conserve


@pytest.mark.parametrize("n", [9, 12])
@pytest.mark.parametrize("froude", [0.0, 1600.0])
def test_sines_solve_the_problem_of_helmholtz(n, froude):
    model = QuasiGeostrophic(n=n, froude=froude)
    places = np.linspace(0, 1, n)[1:-1]
    psi = np.sin(3 * np.pi * places)[:, None] * np.sin(np.pi * places)
    waves = sum(2 * (n - 1) ** 2 * (np.cos(k * np.pi / (n - 1)) - 1) for k in (1, 3))
    q = (waves - froude) * psi
    for kind in (np.asarray, torch.as_tensor):
        np.testing.assert_allclose(np.asarray(model.stream_function(kind(q))), psi, atol=1e-13)


def test_the_stream_function_is_that_of_the_vorticity():
    model, psi = QuasiGeostrophic(n=9), basin(9, many=(2, 3))
    q = laplacian(psi, 1 / 8) - model.froude * psi[..., 1:-1, 1:-1]
    np.testing.assert_allclose(model.stream_function(q), psi[..., 1:-1, 1:-1], atol=1e-12)


def by_loops(model, q):
    """Give dq/dt (y, x) of the whole basin, and psi, point by point."""
    n, h = model.n, 1 / (model.n - 1)
    inside = [(y, x) for y in range(1, n - 1) for x in range(1, n - 1)]
    places = {place: number for number, place in enumerate(inside)}
    matrix = np.zeros((len(inside), len(inside)))
    for (y, x), row in places.items():
        matrix[row, row] = -4 / h**2 - model.froude
        for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if near in places:
                matrix[row, places[near]] = 1 / h**2
    psi = np.zeros((n, n))
    psi[1:-1, 1:-1] = np.linalg.solve(matrix, q[1:-1, 1:-1].ravel()).reshape(n - 2, n - 2)

    def lap(f):
        found = np.zeros((n, n))
        for y, x in inside:
            near = f[y - 1, x] + f[y + 1, x] + f[y, x - 1] + f[y, x + 1]
            found[y, x] = (near - 4 * f[y, x]) / h**2
        return found

    zeta = lap(psi)
    twice, thrice = lap(zeta), lap(lap(zeta))
    change = np.zeros((n, n))
    for y, x in inside:
        p, z = (f[y - 1 : y + 2, x - 1 : x + 2] for f in (psi, q))
        (psw, ps, pse), (pw, _, pe), (pnw, pn, pne) = p
        (zsw, zs, zse), (zw, _, ze), (znw, zn, zne) = z
        one = (pe - pw) * (zn - zs) - (pn - ps) * (ze - zw)
        two = pe * (zne - zse) - pw * (znw - zsw) - pn * (zne - znw) + ps * (zse - zsw)
        three = zn * (pne - pnw) - zs * (pse - psw) - ze * (pne - pse) + zw * (pnw - psw)
        change[y, x] = (
            -model.rossby * (one + two + three) / (12 * h**2)
            - (pe - pw) / (2 * h)
            - model.bottom_friction * zeta[y, x]
            + model.friction * twice[y, x]
            - model.biharmonic_friction * thrice[y, x]
            - model.forcing * 2 * np.pi * np.sin(2 * np.pi * y * h)
        )
    return change, psi


def test_a_step_is_that_of_a_loop_on_the_vorticity():
    settings = {"bottom_friction": 0.1, "friction": 1e-3, "biharmonic_friction": 1e-7}
    model = QuasiGeostrophic(n=8, dt=0.5, froude=300.0, rossby=0.02, forcing=0.7, **settings)
    states = np.random.default_rng(0).standard_normal((2, 3, 36))
    moved = model.step(states, None)[0]
    psi = np.pad(states[1, 2].reshape(6, 6), 1)
    q = np.pad(laplacian(psi, 1 / 7) - 300 * psi[1:-1, 1:-1], 1)
    h = model.dt
    k1 = by_loops(model, q)[0]
    k2 = by_loops(model, q + h / 2 * k1)[0]
    k3 = by_loops(model, q + h / 2 * k2)[0]
    k4 = by_loops(model, q + h * k3)[0]
    psi = by_loops(model, q + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))[1]
    np.testing.assert_allclose(moved[1, 2], psi[1:-1, 1:-1].ravel(), rtol=1e-10, atol=1e-12)
    assert abs(moved[1, 2] - states[1, 2]).max() > 0.1


def mode(n, froude, time):
    """Give the first mode of a basin (variable,), a Rossby wave of frequency w, and w.

    psi = cos(x / 2w + w t) sin(pi x) sin(pi y), w = 1 / (2 sqrt(2 pi^2 + F)): it moves to the west.
    """
    w = 1 / (2 * np.sqrt(2 * np.pi**2 + froude))
    x, y = np.meshgrid(*[np.linspace(0, 1, n)[1:-1]] * 2)
    wave = np.cos(x / (2 * w) + w * time)
    return (wave * np.sin(np.pi * x) * np.sin(np.pi * y)).ravel(), w


@pytest.mark.parametrize("froude", [0.0, 30.0])
def test_a_rossby_wave_moves_at_its_speed(froude):
    errors = []
    for n in (17, 33):
        start, w = mode(n, froude, 0.0)
        quarter = np.pi / 2 / w
        model = QuasiGeostrophic(dt=quarter, substeps=40, n=n, froude=froude, rossby=0.0, **STILL)
        errors.append(abs(model.step(start, None)[0] - mode(n, froude, quarter)[0]).max())
    assert errors[1] < 0.03
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def test_energy_is_conserved_without_wind_and_friction():
    settings = {"n": 17, "dt": 0.5, "rossby": 0.01, "froude": 100.0, **STILL}
    states = np.random.default_rng(0).standard_normal((3, 15 * 15))

    def energy(states):
        psi = np.pad(states.reshape(3, 15, 15), [(0, 0), (1, 1), (1, 1)])
        inner = psi[:, 1:-1, 1:-1]
        return -(inner * (laplacian(psi, 1 / 16) - 100 * inner)).sum((1, 2)) / 2

    for substeps, near in ((1, 1e-4), (8, 1e-8)):  # all that changes it is the error of the steps
        moved = QuasiGeostrophic(substeps=substeps, **settings).step(states, None)[0]
        assert (abs(moved - states).max(-1) > 0.5).all()
        np.testing.assert_allclose(energy(moved), energy(states), rtol=near)


def test_torch_steps_and_differentiates_it():
    model = QuasiGeostrophic(n=9, dt=1.0, rossby=1e-2)
    states = np.random.default_rng(0).standard_normal((4, 49))
    moved = model.step(torch.as_tensor(states), None)[0].numpy()
    np.testing.assert_allclose(moved, model.step(states, None)[0], atol=1e-13)
    assert no_gradient(model, states) == ""


def test_many_states_are_stepped_as_each_alone():
    model = QuasiGeostrophic(n=65)
    states = np.random.default_rng(0).standard_normal((2, 3, 63 * 63))
    moved = model.step(states, None)[0]
    for place in np.ndindex(2, 3):
        np.testing.assert_allclose(model.step(states[place], None)[0], moved[place], atol=1e-12)
    assert model.step(states[:0], None)[0].shape == (0, 3, 63 * 63)


def test_the_wind_drives_two_gyres():
    model = QuasiGeostrophic(n=17, dt=5.0, substeps=4)
    rest = model.template.assign_coords(time=0.0)
    psi = daml.unflatten(daml.simulate(model, steps=40, initial=rest)).psi.isel(time=-1)
    assert float(psi.sel(y=slice(0.05, 0.45)).min()) > 0
    assert float(psi.sel(y=slice(0.55, 0.95)).max()) < 0
    assert float(psi.sel(y=0.25).mean()) > 0.5
    assert psi.isel(x=0).isnull().all()
    assert float(psi.sel(y=0.25).idxmax()) < 0.5  # stronger in the west


def test_variables_lie_in_the_basin():
    model = QuasiGeostrophic(n=5)
    assert model.variables[0] == "psi[1,1]"
    np.testing.assert_allclose(
        model.positions[:4], [[1, 1], [1, 2], [1, 3], [2, 1]] * np.array(0.25)
    )
    assert StateSpace.of(model).distance([0], [1, 3])[0].tolist() == [0.25, 0.25]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"dt": 0.0}, "'dt' is 0; give a number > 0"),
        ({"substeps": 0}, "'substeps' is 0; give 1 or more"),
        ({"n": 4}, "'n' is 4; give 5 or more points"),
        ({"froude": -1.0}, "'froude' is -1; give 0 or more"),
        ({"biharmonic_friction": -1e-12}, "'biharmonic_friction' is -1e-12; give 0 or more"),
        ({"friction": np.inf}, "'friction' is inf; give 0 or more"),
        ({"rossby": np.inf}, "'rossby' is inf; give a number"),
    ],
)
def test_a_basin_that_cannot_be_is_refused(given, text):
    with pytest.raises(InputError, match=f"QuasiGeostrophic: {text}"):
        QuasiGeostrophic(**given)
