"""bench/compare.py's result as Markdown."""

import goals

HEADER = (
    "| system | cache | tokens | TTFT s | TPOT ms | decode t/s | CPU s "
    "| KV MiB | memory MiB |\n"
    "|---|---|--:|--:|--:|--:|--:|--:|--:|"
)


def _spreading(summary, key, scale, digits):
    """The median and half of the spread."""
    if key not in summary:
        return ""
    value, half = summary[key] * scale, summary[f"{key}_spread"] * scale / 2
    return f"{value:.{digits}f} +- {half:.{digits}f}"


def _mebibytes(summary, key, digits):
    return f"{summary[key] / 2**20:.{digits}f}" if key in summary else ""


def table(summaries, missing):
    lines = [HEADER]
    for row, reason in missing.items():
        cells = row.system, row.cache, row.lengths, reason, *[""] * 5
        lines.append(f"| {' | '.join(cells)} |")
    for row, summary in summaries.items():
        cells = (
            row.system,
            row.cache,
            row.lengths,
            _spreading(summary, "ttft_ms", 1e-3, 2),
            _spreading(summary, "tpot_ms", 1, 1),
            f"{summary['decode_tokens_per_s']:.0f}",
            f"{summary['processor_s']:.1f}",
            _mebibytes(summary, "kv_bytes", 1),
            _mebibytes(summary, "memory_bytes", 0),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def bounds_text(bounds, summaries, threads):
    kinds = goals.kinds(bounds)
    speeds = ", ".join(
        f"{bounds[f'{kind}_flops_per_s'] / 1e9:.0f} in {kind}"
        for kind in kinds
    )
    titles = ["row", "decode", *(f"prefill, {kind}" for kind in kinds)]
    lines = [
        f"{threads} threads read {bounds['read_bytes_per_s'] / 1e9:.1f} GB/s "
        f"and multiply, in GFLOP/s, {speeds}. Shares of that:",
        "",
        f"| {' | '.join(titles)} |",
        "|---" + "|--:" * (len(titles) - 1) + "|",
    ]
    keys = "decode_share", *(f"prefill_share_{kind}" for kind in kinds)
    for row, summary in summaries.items():
        if keys[0] in summary:
            cells = (f"{100 * summary[key]:.0f} %" for key in keys)
            lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _statement_line(statement):
    if statement["gap"] is None:
        return f"- {statement['row']}: the answer agrees"
    return (
        f"- {statement['row']}: the answer parts after "
        f"{statement['agreeing_tokens']} tokens, {statement['gap']:.2f} "
        "logits apart here"
    )


def _verdict_line(verdict):
    sign = ">=" if verdict["at_least"] else "<="
    word = "met" if verdict["met"] else "MISSED"
    against = f" x {verdict['against']}" if verdict["against"] else ""
    return (
        f"- {word}: {verdict['what']}: {verdict['ratio']:.2f}{against} "
        f"(goal {sign} {verdict['goal']:.2f})"
    )


def markdown(document, summaries, missing, noise_limit):
    """document: what --json prints. summaries: {Row: dict}; missing: {Row:
    why}, rows that were not measured"""
    parts = [table(summaries, missing)]
    if document["noise"] > noise_limit:
        parts.append(
            f"Other programs took up to {100 * document['noise']:.0f} % of "
            "the processors during a run: the times are not to be trusted."
        )
    if document["bounds"]:
        parts.append(
            bounds_text(document["bounds"], summaries, document["threads"])
        )
    if document["answers"]:
        parts.append("\n".join(map(_statement_line, document["answers"])))
    parts.append("\n".join(map(_verdict_line, document["verdicts"])))
    return "\n\n".join(parts)
