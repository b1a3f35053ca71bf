"""What deploy/grafana/winnow.json shows: rows of panels, each with its queries. tools/make_dashboards turns it into Grafana's JSON."""

import collections
import re

Panel = collections.namedtuple("Panel", "title kind unit queries note stacked")
Query = collections.namedtuple("Query", "expr legend")

RATE = "$__rate_interval"  # Grafana's: a few scrapes, at least
CHOSEN = 'namespace=~"$namespace"'  # the dashboard's variable; all of them includes no namespace at all
SELECTOR = re.compile(r"\b(winnow[_:][\w:]+)(?:\{([^}]*)\})?")


def panel(title, unit, *queries, kind="timeseries", note="", stacked=False):
    return Panel(title, kind, unit, [Query(of_namespace(expr), legend) for expr, legend in queries], note, stacked)


def of_namespace(expr):
    """Every metric and recorded series of an expression, in the chosen namespaces only."""
    return SELECTOR.sub(lambda found: f"{found[1]}{{{', '.join(filter(None, (found[2], CHOSEN)))}}}", expr)


def rate(metric, by="", where="", function="rate"):
    """The sum of a counter's rates by some labels."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} ({function}({metric}{{{where}}}[{RATE}]))".replace("{}", "")


def quantiles(metric, levels=(0.5, 0.9, 0.99), by="", where="", legend=""):
    labels = f"le, {by}" if by else "le"
    suffix = f" {legend}" if legend else ""
    return [(f"histogram_quantile({level}, {rate(metric + '_bucket', labels, where)})",
             f"p{round(level * 100)}{suffix}") for level in levels]


def mean(metric, by="", where=""):
    return f"{rate(metric + '_sum', by, where)} / {rate(metric + '_count', by, where)}"


ROWS = {
    "What the user sees": [
        panel("Time to the first token", "s", *quantiles("winnow_request_ttft_seconds"),
              note="Request received to token 0 written, on the router's clock."),
        panel("Time to the first token, heat map", "s",
              (rate("winnow_request_ttft_seconds_bucket", "le", function="increase"), "{{le}}"), kind="heatmap"),
        panel("First to second token", "s", *quantiles("winnow_request_second_token_seconds"),
              note="The handoff to the decode worker shows here."),
        panel("Decode ready", "s", *quantiles("winnow_decode_ready_seconds"),
              note="Request received to the KV's commit at a decode worker."),
        panel("Requests by status", "reqps", (rate("winnow_requests_total", "code", 'component="router"'), "{{code}}"),
              stacked=True),
        panel("Errors", "percentunit", ("winnow:request_errors:ratio5m", "share of requests {{namespace}}"),
              note="Failures that are not the client's own."),
        panel("Objectives: how fast the allowance burns", "none",
              ("winnow:ttft_burn:rate5m", "first token, 5 min {{namespace}}"),
              ("winnow:ttft_burn:rate1h", "first token, 1 h {{namespace}}"),
              ("winnow:second_token_burn:rate5m", "second token, 5 min {{namespace}}"),
              ("winnow:second_token_burn:rate1h", "second token, 1 h {{namespace}}"),
              note="1 uses up exactly what the objectives of deploy/prometheus/alerts.yaml allow."),
        panel("Canary", "none", ("min(winnow_canary_right)", "right"), kind="stat",
              note="1: a question with a known answer was answered rightly."),
    ],
    "Where TTFT goes": [
        panel("Stages, mean of a request", "s", (mean("winnow_stage_seconds", "stage"), "{{stage}}"), stacked=True,
              note="They add up to the mean time to the first token."),
        panel("Stages and the whole", "s", (mean("winnow_request_ttft_seconds"), "mean TTFT"),
              (f"sum({mean('winnow_stage_seconds', 'stage')})", "sum of the stages")),
        panel("Queues", "s", *quantiles("winnow_request_queue_seconds", (0.5, 0.99), "where", legend="{{where}}")),
        panel("All-reduce of the scores", "s", *quantiles("winnow_score_allreduce_seconds", (0.5, 0.99), "tp",
                                                         legend="tp {{tp}}")),
        panel("Handoff that no compute hides", "s", *quantiles("winnow_kv_transfer_exposed_seconds"),
              note="Token 0 made to commit answered."),
        panel("TTFT by prompt length, p90", "s",
              *quantiles("winnow_request_ttft_seconds", (0.9,), "prompt_bucket", legend="up to {{prompt_bucket}}")),
    ],
    "Handoff": [
        panel("K and V payload", "Bps", (rate("winnow_kv_transfer_bytes_total", "direction"), "{{direction}}")),
        panel("Duration of a handoff", "s", *quantiles("winnow_kv_transfer_seconds"),
              note="First chunk sent to commit answered."),
        panel("Size of a handoff", "bytes", *quantiles("winnow_kv_transfer_size_bytes", (0.5, 0.99))),
        panel("Behind the first token, mean", "s", (mean("winnow_overlapped_seconds", "stage"), "{{stage}}"), stacked=True),
        panel("Waiting for credits", "none", (rate("winnow_kv_credit_stall_seconds_total", "instance"), "{{instance}}"),
              note="Stream seconds per second: the receiver stores more slowly than the sender sends."),
        panel("Failures", "ops", (rate("winnow_kv_transfer_failures_total", "component, reason"), "{{component}} {{reason}}"),
              (rate("winnow_kv_checksum_mismatch_total"), "checksum"), (rate("winnow_kv_leases_expired_total"), "lease expired")),
        panel("Reservations", "none", ("sum by (instance) (winnow_kv_reservations_active)", "{{instance}}")),
        panel("Host memory of KV", "bytes", ("sum by (instance) (winnow_kv_staging_bytes)", "staged {{instance}}"),
              ("sum by (instance) (winnow_kv_pinned_bytes)", "kept for a resend {{instance}}")),
    ],
    "CLAA": [
        panel("Kept share of a prompt, mean", "percentunit", (mean("winnow_keep_ratio", "policy"), "{{policy}}")),
        panel("KV entries", "ops", (rate("winnow_kv_entries_total", "segment, fate"), "{{segment}} {{fate}}"), stacked=True,
              note="K,V entries over layers and heads: layers that keep all, that are pruned per head, that hold the selection."),
        panel("Pruned share of the KV", "percentunit",
              (rate("winnow_kv_entries_total", where='fate="pruned"') + " / " + rate("winnow_kv_entries_total"), "pruned")),
        panel("Ranks that disagreed", "none", ("sum(winnow_selection_digest_mismatch_total)", "mismatches"), kind="stat",
              note="Must stay 0."),
        panel("Prompt length", "none", *quantiles("winnow_prompt_tokens", (0.5, 0.9, 0.99))),
    ],
    "Workers": [
        panel("Ready and not", "none", ("max by (namespace, role, state) (winnow_worker_state)", "{{role}} {{state}} {{namespace}}")),
        panel("Prompt tokens", "ops", (rate("winnow_prefill_computed_tokens_total", "instance"), "computed {{instance}}"),
              (rate("winnow_wasted_tokens_total", "reason"), "for nothing: {{reason}}")),
        panel("Generated tokens", "ops", (rate("winnow_generation_tokens_total", "instance"), "{{instance}}")),
        panel("Work waiting for prefill", "s", ("sum by (instance) (winnow_queued_prefill_seconds)", "{{instance}}")),
        panel("Jobs waiting", "none", ("sum by (priority) (winnow_requests_queued)", "{{priority}}"), stacked=True),
        panel("Prefill, received to token 0", "s", *quantiles("winnow_prefill_ttft_seconds")),
        panel("KV blocks used", "percentunit", ("winnow:kv_blocks_used:ratio", "{{instance}}")),
        panel("Decode batch, mean", "none", (mean("winnow_decode_batch_size", "instance"), "{{instance}}")),
        panel("A decode step", "s", *quantiles("winnow_inter_token_latency_seconds")),
        panel("Collectives given up", "ops", (rate("winnow_nccl_aborts_total", "component, reason"), "{{component}} {{reason}}")),
        panel("Programs", "none", ("count by (component, version) (winnow_build_info)", "{{component}} {{version}}"),
              ("count by (component, digest, profile) (winnow_model_info)", "{{component}} {{digest}} {{profile}}"), kind="table"),
    ],
    "Router": [
        panel("In flight", "none", ("sum by (component) (winnow_requests_inflight)", "{{component}}")),
        panel("Waiting because all workers are full", "none", ("sum by (instance) (winnow_requests_waiting)", "{{instance}}")),
        panel("Turned away", "reqps", (rate("winnow_rejections_total", "reason"), "{{reason}}"), stacked=True),
        panel("Tried again", "ops", (rate("winnow_retries_total", "stage, reason"), "{{stage}} {{reason}}"), stacked=True),
        panel("Generations moved", "ops", (rate("winnow_migrations_total", "reason"), "{{reason}}")),
        panel("Given up by clients and deadlines", "ops", (rate("winnow_cancellations_total", "stage"), "{{stage}}"),
              stacked=True),
        panel("Whole requests", "s",
              *quantiles("winnow_request_duration_seconds", (0.5, 0.99), "outcome", legend="{{outcome}}")),
    ],
}
