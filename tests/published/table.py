"""Print the table of published scores and of those that daml reaches, as the documentation has it.

``python tests/published/table.py``; it takes some ten minutes.
"""

from test_published_scores import CASES, SOURCES, how, long, rmse

print("| setting | scheme | published | daml | standard error | lost, % | with what is lost |")
print("|---|---|---|---|---|---|---|")
for source, name in CASES:
    module = SOURCES[source]
    found, error, lost, whole = rmse(source, name, long(module, name), **how(module, name))
    published = module.SCORES[name][1]
    line = f"{published:.2f} | {found:.3f} | {error:.3f} | {100 * lost:.1f} | {whole:.3f}"
    print(f"| {source} | {name} | {line} |", flush=True)
