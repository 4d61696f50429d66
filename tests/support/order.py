"""Which modules are begun with where several are run at once."""

# The longest first, so that none is left alone at the end.
LONGEST = (
    "test_races",
    "test_lineages",
    "test_snapshot",
    "test_acme_faults",
    "test_refusals",
    "test_acme",
    "test_log",
    "test_ctl",
    "test_reload",
    "test_install_engine",
    "test_requests",
    "test_memory",
    "test_slow_clients",
    "test_fuzz",
    "test_watchdog",
    "test_compose",
    "test_start",
    "test_application_log",
    "test_syslog_faults",
    "test_tls",
    "test_database",
    "test_log_burst",
    "test_lint",
    "test_relay",
)
