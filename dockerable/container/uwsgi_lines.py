"""The level of each line in uWSGI's log, and which lines to leave out.

uWSGI logs no levels, and at each start forty lines about itself. The project's output is in the same log, so a line is
left out only if all of it, from first to last character, matches one that uWSGI writes.
"""

import os
import re

HOST = os.uname()
# uWSGI's lines about the host, which are known exactly.
ABOUT_HOST = {
    f"os: {HOST.sysname}-{HOST.release} {HOST.version}",
    f"nodename: {HOST.nodename}",
    f"machine: {HOST.machine}",
}
STAMP = re.compile(
    r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4} - (?=\*{3} |HARAKIRI|chain |\.\.\.|graceful |(?:uWSGI )?worker )"
)
# uWSGI's lines about its build, its host, options that uwsgi.ini shows, and the steps of a start, a reload and a stop;
# and its error when the watchdog did not wait for statistics, which the watchdog itself tells of if it lasts.
SAYS_NOTHING = re.compile(
    r"""\[uWSGI\]\ getting\ INI\ configuration\ from\ /app/dockerable/\S+
    |\*{3}\ Starting\ uWSGI\ [\d.]+\ \(\d+bit\)\ on\ \[.{24}\]\ \*{3}
    |\*{3}\ Operational\ MODE:\ [\w+\ ]+\ \*{3}
    |\*{3}\ uWSGI\ is\ running\ in\ multiple\ interpreter\ mode\ \*{3}
    |\*{3}\ Stats\ server\ enabled\ on\ \S+\ fd:\ \d+\ \*{3}
    |\*{3}\ WARNING:\ you\ have\ enabled\ harakiri\ without\ post\ buffering\..*webservers\ \*{3}
    |!!!\ no\ internal\ routing\ support,\ rebuild\ with\ pcre\ support\ !!!
    |---\ Python\ VM\ already\ initialized\ ---
    |compiled\ with\ version:\ \S+\ on\ \d+\ \w+\ \d{4}\ [\d:]{8}
    |clock\ source:\ unix|pcre\ jit\ (?:en|dis)abled|lock\ engine:\ (?:pthread\ robust\ mutexes|ipcsem)
    |thunder\ lock:\ (?:enabled|disabled\ \(you\ can\ enable\ it\ with\ --thunder-lock\))
    |detected\ number\ of\ CPU\ cores:\ \d+|detected\ max\ file\ descriptor\ number:\ \d+
    |detected\ binary\ path:\ /\S+|current\ working\ directory:\ /app|chdir\(\)\ to\ /app
    |your\ processes\ number\ limit\ is\ \d+|your\ memory\ page\ size\ is\ \d+\ bytes
    |your\ server\ socket\ listen\ backlog\ is\ limited\ to\ \d+\ connections
    |your\ mercy\ for\ graceful\ operations\ on\ workers\ is\ \d+\ seconds
    |uwsgi\ socket\ \d+\ (?:bound\ to|inherited)\ UNIX\ address\ /run/\S+\ fd\ \d+
    |Python\ version:\ 3\.\S+\ .*\[GCC\ .*\]|Python\ main\ interpreter\ initialized\ at\ 0x[0-9a-f]+
    |python\ threads\ support\ enabled|mapped\ \d+\ bytes\ \(\d+\ KB\)\ for\ \d+\ cores
    |(?:gracefully\ \(RE\))?spawned\ uWSGI\ master\ process\ \(pid:\ \d+\)
    |spawned\ uWSGI\ worker\ \d+\ (?:\(and\ the\ only\)\ )?\(pid:\ \d+,\ cores:\ \d+\)
    |WSGI\ app\ 0\ \(mountpoint=''\)\ ready\ in\ \d+\ seconds\ on\ interpreter\ 0x[0-9a-f]+\ pid:\ \d+\ \(default\ app\)
    |running\ "(?:unlink:/run/ready|unix_signal:15\ gracefully_kill_them_all|write:/run/ready\ 1)"\ \(\S+\)\.\.\.
    |Gracefully\ killing\ worker\ \d+\ \(pid:\ \d+\)\.\.\.|worker\ \d+\ killed\ successfully\ \(pid:\ \d+\)
    |worker\ \d+\ buried\ after\ \d+\ seconds|goodbye\ to\ uWSGI\.|graceful\ shutdown\ triggered\.\.\.
    |\.\.\.gracefully\ killing\ workers\.\.\.|binary\ reloading\ uWSGI\.\.\.
    |(?:uwsgi_hook_unlink\(\)/)?unlink\(\):\ No\ such\ file\ or\ directory\ \[core/(?:hooks|uwsgi)\.c\ line\ \d+\]
    |VACUUM:\ unix\ socket\ /run/\S+\ (?:\(stats\)\ )?removed\.
    |chain\ next\ victim\ is\ worker\ \d+|chain\ is\ still\ waiting\ for\ worker\ \d+\.\.\.
    |write\(\):\ Broken\ pipe\ \[core/stats\.c\ line\ \d+\]
    |HARAKIRI\ !!!\ (?:end\ of\ )?worker\ \d+\ status\ !!!|HARAKIRI\ \[core\ \d+\]\ \S+\ -\ .*\ since\ \d+
    |HARAKIRI:\ graceful\ termination\ attempt\ on\ worker\ .*|HARAKIRI\ (?:\(user\)\ )?triggered\ by\ worker\ .*
    |uWSGI\ worker\ \d+\ error:\ the\ master\ disconnected\ from\ this\ worker\.\ Shutting\ down\ the\ worker\.""",
    re.VERBOSE,
)
# Errors of uWSGI, then the levels that lines of a project without LOGGING may begin with.
ERROR = re.compile(
    r"DAMN !|OOPS !|\[strict-mode\]|!!! uWSGI process \d+ got |\*{3} no app loaded|unable to |Fatal Python error"
    # The words with which it says why it does not start.
    r"|invalid (?:[\w-]+ ){0,3}(?:syntax|value)\b|hook action not found: |the \w+ loop engine requires "
    r"|cannot \w+\(\) as non-root user|uWSGI (?:error|ERROR): |FATAL ERROR: "
    r"|\[[\w.:=-]+\] \S+ \S+ HTTP/\S+ 5\d\d in |(?:ERROR|CRITICAL|FATAL)\b"
)
# How uWSGI ends a line about a failed system call.
SYSTEM_ERROR = re.compile(r" \[(?:core|proto|plugins)/\S+ line \d+\]$")
WARNING = re.compile(
    r"\*{3} (?:HARAKIRI|EVIL RELOAD|uWSGI listen queue)|HARAKIRI|worker respawning too fast|VACUUM WARNING"
    r"|worker \d+ \(pid: \d+\) is taking too much time to die|!!! |WARN(?:ING)?\b|\S+:\d+: \w*Warning: "
)
ACCEPTS = 'running "write:/run/ready 1"'


def read(line: str) -> tuple[str, str]:
    """The level of a line, and the text to log; an empty text means that the line is left out."""
    words = line.strip()
    if words.startswith(ACCEPTS):
        return "info", "accepting requests"
    if stamp := STAMP.match(words):
        line = words = words[stamp.end() :]
    if words in ABOUT_HOST or SAYS_NOTHING.fullmatch(words):
        return "info", ""
    if ERROR.match(words) or SYSTEM_ERROR.search(words[-80:]):
        return "error", line
    return "warning" if WARNING.match(words) else "info", line
