/* To preload: a connection to uWSGI is taken, and the caller learns of it a while later. */
#define _GNU_SOURCE
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

int accept4(int listener, struct sockaddr *address, socklen_t *length, int flags) {
    int taken = syscall(SYS_accept4, listener, address, length, flags);
    struct sockaddr_un own = {0};
    socklen_t size = sizeof(own);
    if (taken >= 0 && !getsockname(listener, (struct sockaddr *)&own, &size) &&
        !strncmp(own.sun_path, "/run/uwsgi.sock", sizeof(own.sun_path)))
        usleep(300000);
    return taken;
}

int accept(int listener, struct sockaddr *address, socklen_t *length) { return accept4(listener, address, length, 0); }
