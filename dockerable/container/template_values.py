"""Values for nginx's templates that are derived from variables."""

from collections.abc import Mapping
from pathlib import Path

from dockerable.container import patience
from dockerable.container.kinds import is_address


def template_values(values: Mapping[str, str]) -> dict[str, str]:
    """The derived values by name, from checked variables."""
    tls, port, http3 = values["USE_SSL"] == "on", values["HTTPS_PORT"], values["NGINX_HTTP3"] == "on"
    proxies = values["TRUSTED_PROXIES"].split()
    return {
        # Without IPv6 in the kernel nginx would not start with `listen [::]:...`, so this comments the line out.
        "IPV6": "" if Path("/proc/net/if_inet6").exists() else "# no IPv6 here: ",
        "SITE_TEMPLATE": "nginx-app-ssl.conf" if tls else "nginx-app.conf",
        "SCHEME": "https" if tls else "http",
        "HTTPS_PORT_SUFFIX": "" if port == "443" else f":{port}",
        "HTTPS_PORT_UNLESS_443": "" if port == "443" else port,
        "STRICT_TRANSPORT_SECURITY": f"max-age={values['HSTS_SECONDS']}",
        "REJECT_UNKNOWN_NAME": "off" if any(map(is_address, values["NGINX_SERVER_NAME"].split())) else "on",
        "HTTP3": "" if http3 else "# off: ",
        "ALTERNATIVE_SERVICE": f'h3=":{port}"; ma=86400' if http3 else "",
        "SLOW_REQUEST": at_least(int(values["SLOW_REQUEST_SECONDS"])),
        "FIRST_SERVER_NAME": values["NGINX_SERVER_NAME"].split()[0],
        "SET_REAL_IP_FROM": "\n".join(f"set_real_ip_from {proxy};" for proxy in proxies),
        "TRUSTED_PROXIES_GEO": "\n".join(f"    {proxy} 1;" for proxy in proxies),
        "LIMIT_CONNECTIONS": "# off: " if values["NGINX_LIMIT_CONNECTIONS"] == "0" else "",
        "LIMIT_REQUESTS": "# off: " if values["NGINX_LIMIT_REQUESTS"] == "0" else "",
        "NGINX_READ_TIMEOUT": str(patience.of_nginx(int(values["UWSGI_HARAKIRI"]))),
    }


def at_least(number: int) -> str:
    """A regular expression that matches whole numbers from `number` on, or nothing for 0: nginx cannot compare."""
    if number == 0:
        return "(?!)"
    digits = str(number)
    choices = [digits, rf"[1-9]\d{{{len(digits)},}}"]
    for place, digit in enumerate(digits):
        if digit != "9":
            choices.append(rf"{digits[:place]}[{int(digit) + 1}-9]\d{{{len(digits) - place - 1}}}")
    return f"({'|'.join(choices)})"
