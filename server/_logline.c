/* _logline.c - request log lines, one write(2) each.
 *
 * A format is compiled once into parts. The default line is the same machinery with the format of
 * DEFAULT_FORMAT, so that there is one way to write a line. Controls in anything that a client
 * sent are replaced: a request cannot forge a line.
 */
#include "_worker.h"

#include <stdarg.h>
#include <time.h>
#include <unistd.h>

/** What a part of a format stands for. */
enum part_kind {
    PART_TEXT,
    PART_URI,
    PART_METHOD,
    PART_USER,
    PART_ADDR,
    PART_HOST,
    PART_PROTO,
    PART_UAGENT,
    PART_REFERER,
    PART_STATUS,
    PART_RSIZE,
    PART_HSIZE,
    PART_SIZE,
    PART_CL,
    PART_MICROS,
    PART_MSECS,
    PART_SECS,
    PART_TMSECS,
    PART_TMICROS,
    PART_TIME,
    PART_LTIME,
    PART_FTIME,
    PART_CTIME,
    PART_EPOCH,
    PART_PID,
    PART_WID,
    PART_SWITCHES,
    PART_VARS,
    PART_CORE,
    PART_VSZ,
    PART_RSS,
    PART_VSZM,
    PART_RSSM,
    PART_PKTSIZE,
    PART_MODIFIER1,
    PART_MODIFIER2,
    PART_HEADERS,
    PART_WERR,
    PART_RERR,
    PART_IOERR,
    PART_APP,
    PART_REQ,
    PART_TOTAL,
    PART_VIA,
    PART_VAR, /* var.NAME */
    PART_NONE,
    PART_COUNT,
};

/* Names in a format; those in capitals are ours, for DEFAULT_FORMAT. */
static const char *const part_names[PART_COUNT] = {
    [PART_URI] = "uri",
    [PART_METHOD] = "method",
    [PART_USER] = "user",
    [PART_ADDR] = "addr",
    [PART_HOST] = "host",
    [PART_PROTO] = "proto",
    [PART_UAGENT] = "uagent",
    [PART_REFERER] = "referer",
    [PART_STATUS] = "status",
    [PART_RSIZE] = "rsize",
    [PART_HSIZE] = "hsize",
    [PART_SIZE] = "size",
    [PART_CL] = "cl",
    [PART_MICROS] = "micros",
    [PART_MSECS] = "msecs",
    [PART_SECS] = "secs",
    [PART_TMSECS] = "tmsecs",
    [PART_TMICROS] = "tmicros",
    [PART_TIME] = "time",
    [PART_LTIME] = "ltime",
    [PART_FTIME] = "ftime",
    [PART_CTIME] = "ctime",
    [PART_EPOCH] = "epoch",
    [PART_PID] = "pid",
    [PART_WID] = "wid",
    [PART_SWITCHES] = "switches",
    [PART_VARS] = "vars",
    [PART_CORE] = "core",
    [PART_VSZ] = "vsz",
    [PART_RSS] = "rss",
    [PART_VSZM] = "vszM",
    [PART_RSSM] = "rssM",
    [PART_PKTSIZE] = "pktsize",
    [PART_MODIFIER1] = "modifier1",
    [PART_MODIFIER2] = "modifier2",
    [PART_HEADERS] = "headers",
    [PART_WERR] = "werr",
    [PART_RERR] = "rerr",
    [PART_IOERR] = "ioerr",
    [PART_APP] = "APP",
    [PART_REQ] = "REQ",
    [PART_TOTAL] = "TOTAL",
    [PART_VIA] = "VIA",
};

#define DEFAULT_FORMAT                                                                            \
    "[pid: %(pid)|app: %(APP)|req: %(REQ)/%(TOTAL)] %(addr) (%(user)) {%(vars) vars in "          \
    "%(pktsize) bytes} [%(ctime)] %(method) %(uri) => generated %(rsize) bytes in %(msecs) "      \
    "msecs%(VIA) (%(proto) %(status)) %(headers) headers in %(hsize) bytes (%(switches) "         \
    "switches on core %(core))"

struct log_part {
    enum part_kind kind;
    const char *text; /* of PART_TEXT; the name of PART_VAR, which ends with a NUL */
    size_t len;
};

/* One block of memory, not one for each text: a worker is forked from a process whose heap it
 * shares, and each small allocation would take a page of it. */
struct log_format {
    size_t count;
    bool plain; /* the default line: empty fields are left empty, not "-" */
    char *copy; /* of the format, into which texts point; NULL for the default */
    struct log_part parts[];
};

#define LINE_MAX_LEN 8192

/** A line being written; what does not fit is cut. */
struct line {
    size_t len;
    bool dash;
    char text[LINE_MAX_LEN];
};

static void
add_bytes(struct line *line, const char *ptr, size_t len)
{
    for (size_t i = 0; i < len && line->len < LINE_MAX_LEN - 1; i++) {
        unsigned char c = (unsigned char)ptr[i];
        line->text[line->len++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
}

static void
add_field(struct line *line, const char *ptr, size_t len)
{
    if (len == 0 && line->dash)
        add_bytes(line, "-", 1);
    else
        add_bytes(line, ptr, len);
}

static void
add_number(struct line *line, uint64_t n)
{
    char digits[24];

    add_bytes(line, digits,
              (size_t)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n));
}

static void
add_time(struct line *line, time_t when, const char *format)
{
    char text[64];
    struct tm tm;

    localtime_r(&when, &tm);
    add_bytes(line, text, strftime(text, sizeof(text), format, &tm));
}

/** A variable of the environ. */
static void
add_var(struct line *line, PyObject *environ, const char *name)
{
    PyObject *value = environ != NULL ? PyDict_GetItemString(environ, name) : NULL;

    if (value != NULL && PyUnicode_Check(value) && PyUnicode_KIND(value) == PyUnicode_1BYTE_KIND)
        add_field(line, (const char *)PyUnicode_1BYTE_DATA(value),
                  (size_t)PyUnicode_GET_LENGTH(value));
    else
        add_field(line, "", 0);
}

static void
add_addr(struct line *line, struct loop *loop, PyObject *environ)
{
    if (loop->worker->log_x_forwarded_for && environ != NULL &&
        PyDict_GetItemString(environ, "HTTP_X_FORWARDED_FOR") != NULL)
        add_var(line, environ, "HTTP_X_FORWARDED_FOR");
    else
        add_var(line, environ, "REMOTE_ADDR");
}

/** Keys and values of the environ that came from the request, and their size in a uwsgi packet. */
static void
count_vars(PyObject *environ, uint64_t *vars, uint64_t *bytes)
{
    PyObject *key;
    PyObject *value;
    Py_ssize_t at = 0;

    *vars = *bytes = 0;
    while (environ != NULL && PyDict_Next(environ, &at, &key, &value)) {
        if (!PyUnicode_Check(key) || !PyUnicode_Check(value) ||
            PyUnicode_FindChar(key, '.', 0, PY_SSIZE_T_MAX, 1) >= 0)
            continue;
        *vars += 2;
        *bytes += (uint64_t)(PyUnicode_GET_LENGTH(key) + PyUnicode_GET_LENGTH(value) + 4);
    }
}

/** Pages of memory from /proc/self/statm: field 0 is virtual, 1 resident; in bytes. */
static uint64_t
memory(int field)
{
    unsigned long sizes[2] = {0, 0};
    FILE *f = fopen("/proc/self/statm", "re");

    if (f != NULL) {
        if (fscanf(f, "%lu %lu", &sizes[0], &sizes[1]) != 2)
            sizes[0] = sizes[1] = 0;
        fclose(f);
    }
    return (uint64_t)sizes[field] * (uint64_t)sysconf(_SC_PAGESIZE);
}

/** Fields about time. */
static void
add_clock(struct line *line, enum part_kind kind, struct loop *loop, uint64_t spent)
{
    uint64_t began = atomic_load_explicit(&loop->stats[CORE_LAST_REQUEST], memory_order_relaxed);
    time_t when = (time_t)(began / 1000000);

    switch (kind) {
    case PART_MICROS:
        add_number(line, spent);
        break;
    case PART_MSECS:
        add_number(line, spent / 1000);
        break;
    case PART_SECS:
        add_number(line, spent / 1000000);
        break;
    case PART_TMSECS:
        add_number(line, began / 1000);
        break;
    case PART_TMICROS:
        add_number(line, began);
        break;
    case PART_TIME:
    case PART_EPOCH:
        add_number(line, (uint64_t)when);
        break;
    case PART_LTIME:
    case PART_FTIME:
        add_time(line, when, "%d/%b/%Y:%H:%M:%S %z");
        break;
    default:
        if (loop->log_second != when) {
            struct tm tm;
            localtime_r(&when, &tm);
            strftime(loop->log_date, sizeof(loop->log_date), "%a %b %e %H:%M:%S %Y", &tm);
            loop->log_second = when;
        }
        add_bytes(line, loop->log_date, strlen(loop->log_date));
    }
}

/** Counters and sizes. */
static void
add_count(struct line *line, enum part_kind kind, struct loop *loop, PyObject *environ)
{
    const struct exchange *x = &loop->x;
    uint64_t vars;
    uint64_t bytes;

    switch (kind) {
    case PART_STATUS:
        add_number(line, (uint64_t)x->status);
        break;
    case PART_RSIZE:
        add_number(line, x->body_sent);
        break;
    case PART_HSIZE:
        add_number(line, x->head_sent);
        break;
    case PART_SIZE:
        add_number(line, x->head_sent + x->body_sent);
        break;
    case PART_CL:
        add_number(line, x->request_body);
        break;
    case PART_PID:
        add_number(line, (uint64_t)getpid());
        break;
    case PART_WID:
        add_number(line, (uint64_t)loop->worker->worker_id);
        break;
    case PART_SWITCHES:
        add_number(line, 1);
        break;
    case PART_CORE:
        add_number(line, (uint64_t)loop->core);
        break;
    case PART_HEADERS:
        add_number(line, x->header_count);
        break;
    case PART_VSZ:
    case PART_VSZM:
        add_number(line, memory(0) >> (kind == PART_VSZM ? 20 : 0));
        break;
    case PART_RSS:
    case PART_RSSM:
        add_number(line, memory(1) >> (kind == PART_RSSM ? 20 : 0));
        break;
    case PART_WERR:
    case PART_IOERR:
        add_number(line, x->conn->broken ? 1 : 0);
        break;
    case PART_REQ:
        add_number(line, atomic_load_explicit(&loop->worker->served, memory_order_relaxed));
        break;
    case PART_TOTAL:
        add_number(line, atomic_load_explicit(loop->worker->total, memory_order_relaxed));
        break;
    case PART_APP:
        if (x->app < 0)
            add_bytes(line, "-1", 2);
        else
            add_number(line, (uint64_t)x->app);
        break;
    case PART_VARS:
    case PART_PKTSIZE:
        count_vars(environ, &vars, &bytes);
        add_number(line, kind == PART_VARS ? vars : bytes);
        break;
    default: /* rerr, modifier1, modifier2: a request that was answered has none */
        add_number(line, 0);
    }
}

/** One part of the line. */
static void
add_part(struct line *line, const struct log_part *part, struct loop *loop, PyObject *environ,
         uint64_t spent)
{
    const struct exchange *x = &loop->x;

    switch (part->kind) {
    case PART_TEXT:
        add_bytes(line, part->text, part->len);
        break;
    case PART_URI:
        add_field(line, x->uri.ptr, x->uri.len);
        break;
    case PART_METHOD:
        add_field(line, x->method.ptr, x->method.len);
        break;
    case PART_PROTO:
        add_field(line, x->protocol.ptr, x->protocol.len);
        break;
    case PART_USER:
        add_var(line, environ, "REMOTE_USER");
        break;
    case PART_ADDR:
        add_addr(line, loop, environ);
        break;
    case PART_HOST:
        add_var(line, environ, "HTTP_HOST");
        break;
    case PART_UAGENT:
        add_var(line, environ, "HTTP_USER_AGENT");
        break;
    case PART_REFERER:
        add_var(line, environ, "HTTP_REFERER");
        break;
    case PART_VAR:
        add_var(line, environ, part->text);
        break;
    case PART_NONE:
        add_bytes(line, "-", 1);
        break;
    case PART_VIA:
        if (x->via_sendfile)
            add_bytes(line, " via sendfile()", 15);
        break;
    case PART_MICROS:
    case PART_MSECS:
    case PART_SECS:
    case PART_TMSECS:
    case PART_TMICROS:
    case PART_TIME:
    case PART_LTIME:
    case PART_FTIME:
    case PART_CTIME:
    case PART_EPOCH:
        add_clock(line, part->kind, loop, spent);
        break;
    default:
        add_count(line, part->kind, loop, environ);
    }
}

/**
 * logline_request() - write the log line of the loop's exchange
 * @loop:	the loop, which holds the GIL
 * @environ:	its environ, or NULL if it could not be made
 */
void
logline_request(struct loop *loop, PyObject *environ)
{
    const struct log_format *format = loop->worker->log_format;
    struct line line;
    struct timespec t;

    line.len = 0;
    line.dash = !format->plain;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t now = (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
    for (size_t i = 0; i < format->count; i++)
        add_part(&line, &format->parts[i], loop, environ, now - loop->x.started_at);
    PyErr_Clear(); /* of a lookup by a name that is no UTF-8 */
    line.text[line.len++] = '\n';
    if (write(STDERR_FILENO, line.text, line.len) < 0)
        return; /* a log that cannot be written has nowhere to say so */
}

/**
 * logline_error() - write a line about something other than a request
 * @format:	as printf(3), without a newline
 */
void
logline_error(const char *format, ...)
{
    char text[1024];
    struct line line;
    va_list args;

    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    line.len = 0;
    if (n > 0)
        add_bytes(&line, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
    line.text[line.len++] = '\n';
    if (write(STDERR_FILENO, line.text, line.len) < 0)
        return; /* as above */
}

/** The part for a name between %( and ). */
static struct log_part
name_part(const char *name, size_t len)
{
    if (len > 4 && memcmp(name, "var.", 4) == 0)
        return (struct log_part){PART_VAR, name + 4, len - 4};
    for (int kind = 0; kind < PART_COUNT; kind++) {
        if (part_names[kind] != NULL && strlen(part_names[kind]) == len &&
            memcmp(part_names[kind], name, len) == 0)
            return (struct log_part){(enum part_kind)kind, name, len};
    }
    return (struct log_part){PART_NONE, name, len};
}

/** The part at the beginning of a format; `*at` moves behind it. */
static struct log_part
next_part(const char **at)
{
    const char *start = *at;
    const char *end = start[0] == '%' && start[1] == '(' ? strchr(start, ')') : NULL;

    if (end != NULL) {
        *at = end + 1;
        return name_part(start + 2, (size_t)(end - start) - 2);
    }
    const char *next = strstr(start + 1, "%(");
    *at = next != NULL ? next : start + strlen(start);
    return (struct log_part){PART_TEXT, start, (size_t)(*at - start)};
}

/**
 * logline_compile() - compile a log-format
 * @format:	the format; NULL for the default line
 *
 * Return: the compiled format, or NULL without memory.
 */
struct log_format *
logline_compile(const char *format)
{
    char *copy = format != NULL ? strdup(format) : NULL;
    const char *text = format != NULL ? copy : DEFAULT_FORMAT;
    size_t most = 1;

    if (text == NULL)
        return NULL;
    for (const char *p = text; (p = strstr(p, "%(")) != NULL; p += 2)
        most += 2; /* the name, and a text behind it */
    struct log_format *compiled = malloc(sizeof(*compiled) + most * sizeof(compiled->parts[0]));
    if (compiled == NULL) {
        free(copy);
        return NULL;
    }
    *compiled = (struct log_format){.plain = format == NULL, .copy = copy};
    while (*text != '\0')
        compiled->parts[compiled->count++] = next_part(&text);
    for (size_t i = 0; copy != NULL && i < compiled->count; i++) {
        const struct log_part *part = &compiled->parts[i];
        if (part->kind == PART_VAR)
            copy[part->text - copy + (ptrdiff_t)part->len] = '\0'; /* where the ) was */
    }
    return compiled;
}

/**
 * logline_free() - free a compiled format
 * @format:	the format, or NULL
 */
void
logline_free(struct log_format *format)
{
    if (format == NULL)
        return;
    free(format->copy);
    free(format);
}
