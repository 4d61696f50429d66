// Delays two steps of uWSGI while a file is there: five seconds between taking a connection and reading from it
// (/tmp/slow-accept), and three between making a worker and knowing its pid (/tmp/slow-fork). A signal that comes
// meanwhile is handled, and the delay goes on.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static void delay(const char *file, int seconds) {
    struct timespec left = {seconds, 0};
    int error = errno;
    if (access(file, F_OK) == 0)
        while (nanosleep(&left, &left) < 0 && errno == EINTR)
            ;
    errno = error;
}

int accept4(int listening, struct sockaddr *address, socklen_t *length, int flags) {
    int (*original)(int, struct sockaddr *, socklen_t *, int) = dlsym(RTLD_NEXT, "accept4");
    int connection = original(listening, address, length, flags);
    struct sockaddr_un own = {0};
    socklen_t size = sizeof own;
    // nginx is preloaded as well.
    if (connection >= 0 && getsockname(listening, (struct sockaddr *)&own, &size) == 0 && own.sun_family == AF_UNIX
        && strcmp(own.sun_path, "/run/uwsgi.sock") == 0)
        delay("/tmp/slow-accept", 5);
    return connection;
}

pid_t fork(void) {
    pid_t (*original)(void) = dlsym(RTLD_NEXT, "fork");
    pid_t child = original();
    if (child > 0)
        delay("/tmp/slow-fork", 3);
    return child;
}
