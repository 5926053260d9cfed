/* _environ.c - the environ of a request.
 *
 * Each listener has a template: a dict with everything that is the same for all requests and the
 * keys that every request sets, and with room for headers. Copying it is one memcpy (PyDict_Copy
 * of a dict that never shrank), and setting a key that is there already needs no growth. Header
 * names seen before keep their key; the last value of each is kept too, as most clients repeat
 * themselves.
 *
 * Two headers are never passed on: those with an underscore in the name, which would be
 * indistinguishable from the one with a dash that a proxy in front may have checked, and Proxy,
 * which libraries would take for the variable HTTP_PROXY.
 */
#include "_worker.h"

#include <arpa/inet.h>

const char *const KEY_NAMES[KEY_COUNT] = {
    [KEY_REQUEST_METHOD] = "REQUEST_METHOD",
    [KEY_REQUEST_URI] = "REQUEST_URI",
    [KEY_PATH_INFO] = "PATH_INFO",
    [KEY_QUERY_STRING] = "QUERY_STRING",
    [KEY_SERVER_PROTOCOL] = "SERVER_PROTOCOL",
    [KEY_SCRIPT_NAME] = "SCRIPT_NAME",
    [KEY_SERVER_NAME] = "SERVER_NAME",
    [KEY_SERVER_PORT] = "SERVER_PORT",
    [KEY_REMOTE_ADDR] = "REMOTE_ADDR",
    [KEY_REMOTE_PORT] = "REMOTE_PORT",
    [KEY_CONTENT_TYPE] = "CONTENT_TYPE",
    [KEY_CONTENT_LENGTH] = "CONTENT_LENGTH",
    [KEY_HTTP_HOST] = "HTTP_HOST",
    [KEY_HTTP_X_FORWARDED_PROTO] = "HTTP_X_FORWARDED_PROTO",
    [KEY_HTTPS] = "HTTPS",
    [KEY_UWSGI_SCHEME] = "UWSGI_SCHEME",
    [KEY_WSGI_VERSION] = "wsgi.version",
    [KEY_WSGI_URL_SCHEME] = "wsgi.url_scheme",
    [KEY_WSGI_INPUT] = "wsgi.input",
    [KEY_WSGI_INPUT_TERMINATED] = "wsgi.input_terminated",
    [KEY_WSGI_ERRORS] = "wsgi.errors",
    [KEY_WSGI_MULTITHREAD] = "wsgi.multithread",
    [KEY_WSGI_MULTIPROCESS] = "wsgi.multiprocess",
    [KEY_WSGI_RUN_ONCE] = "wsgi.run_once",
    [KEY_WSGI_FILE_WRAPPER] = "wsgi.file_wrapper",
    [KEY_UWSGI_VERSION] = "uwsgi.version",
    [KEY_UWSGI_NODE] = "uwsgi.node",
    [KEY_UWSGI_CORE] = "uwsgi.core",
    [KEY_GET] = "GET",
    [KEY_POST] = "POST",
    [KEY_HEAD] = "HEAD",
    [KEY_HTTP_10] = "HTTP/1.0",
    [KEY_HTTP_11] = "HTTP/1.1",
    [KEY_SLASH] = "/",
    [KEY_EMPTY] = "",
    [KEY_HTTP] = "http",
    [KEY_SCHEME_HTTPS] = "https",
    [KEY_CLOSE] = "close",
};

/** Set a key to a new reference, which is consumed; -1 with an exception, also if it is NULL. */
static int
set_new(PyObject *dict, PyObject *key, PyObject *value)
{
    if (value == NULL)
        return -1;
    int result = PyDict_SetItem(dict, key, value);
    Py_DECREF(value);
    return result;
}

static PyObject *
latin1(struct span s)
{
    return PyUnicode_DecodeLatin1(s.ptr, (Py_ssize_t)s.len, NULL);
}

/** The keys that every HTTP request sets; in the template they stand for room. */
static int
template_places(PyObject *dict, PyObject *const *keys)
{
    static const enum key places[] = {KEY_REQUEST_METHOD, KEY_REQUEST_URI,     KEY_PATH_INFO,
                                      KEY_QUERY_STRING,   KEY_SERVER_PROTOCOL, KEY_REMOTE_ADDR,
                                      KEY_REMOTE_PORT,    KEY_WSGI_INPUT};

    for (size_t i = 0; i < Py_ARRAY_LENGTH(places); i++) {
        if (PyDict_SetItem(dict, keys[places[i]], Py_None) < 0)
            return -1;
    }
    return 0;
}

/** What is the same for all requests of a worker. */
static int
template_constants(Worker *worker, PyObject *dict)
{
    PyObject *const *keys = worker->module->keys;
    PyObject *threads = worker->threads > 1 ? Py_True : Py_False;
    PyObject *processes = worker->processes > 1 ? Py_True : Py_False;

    if (set_new(dict, keys[KEY_WSGI_VERSION], Py_BuildValue("(ii)", 1, 0)) < 0 ||
        PyDict_SetItem(dict, keys[KEY_WSGI_URL_SCHEME], keys[KEY_HTTP]) < 0 ||
        PyDict_SetItem(dict, keys[KEY_WSGI_ERRORS], worker->errors) < 0 ||
        PyDict_SetItem(dict, keys[KEY_WSGI_MULTITHREAD], threads) < 0 ||
        PyDict_SetItem(dict, keys[KEY_WSGI_MULTIPROCESS], processes) < 0 ||
        PyDict_SetItem(dict, keys[KEY_WSGI_RUN_ONCE], Py_False) < 0 ||
        PyDict_SetItem(dict, keys[KEY_WSGI_INPUT_TERMINATED], Py_True) < 0 ||
        PyDict_SetItem(dict, keys[KEY_SCRIPT_NAME], keys[KEY_EMPTY]) < 0 ||
        PyDict_SetItem(dict, keys[KEY_UWSGI_VERSION], worker->version) < 0 ||
        PyDict_SetItem(dict, keys[KEY_UWSGI_NODE], worker->node) < 0)
        return -1;
    return PyDict_SetItem(dict, keys[KEY_WSGI_FILE_WRAPPER],
                          (PyObject *)worker->module->wrapper_type);
}

/** Grow the table of a dict to hold `count` more keys, by adding and removing them. */
static int
template_room(PyObject *dict, long count)
{
    PyObject *last = NULL;
    Py_ssize_t used = PyDict_GET_SIZE(dict);

    /* PyDict_Copy clones the table only while two thirds of the entries ever used are in use:
     * one entry over the threshold of the next size is added, and taken out again */
    for (long i = 0; i < count && PyDict_GET_SIZE(dict) < 22; i++) {
        PyObject *number = PyLong_FromLong(i);
        if (number == NULL || PyDict_SetItem(dict, number, Py_None) < 0) {
            Py_XDECREF(number);
            return -1;
        }
        Py_DECREF(number);
    }
    while (PyDict_GET_SIZE(dict) > used) {
        last = PyLong_FromSsize_t(PyDict_GET_SIZE(dict) - used - 1);
        if (last == NULL || PyDict_DelItem(dict, last) < 0) {
            Py_XDECREF(last);
            return -1;
        }
        Py_DECREF(last);
    }
    return 0;
}

/**
 * environ_template() - the dict that each environ of a listener starts as
 * @worker:	the worker, its options set
 * @protocol:	of the listener
 * @name:	SERVER_NAME, a str
 * @port:	SERVER_PORT; 0 for a unix socket: an empty string
 *
 * Return: a new dict, or NULL with an exception.
 */
PyObject *
environ_template(Worker *worker, enum protocol protocol, PyObject *name, long port)
{
    PyObject *const *keys = worker->module->keys;
    PyObject *dict = PyDict_New();

    if (dict == NULL || template_constants(worker, dict) < 0)
        goto fail;
    if (protocol != PROTO_UWSGI) {
        if (template_places(dict, keys) < 0 ||
            PyDict_SetItem(dict, keys[KEY_SERVER_NAME], name) < 0 ||
            set_new(dict, keys[KEY_SERVER_PORT],
                    port > 0 ? PyUnicode_FromFormat("%ld", port) : PyUnicode_New(0, 0)) < 0)
            goto fail;
    }
    if (template_room(dict, 8) < 0)
        goto fail;
    return dict;
fail:
    Py_XDECREF(dict);
    return NULL;
}

/** The environ key of a header: HTTP_ and the name in capitals. */
static PyObject *
header_key(struct span name)
{
    char text[256] = "HTTP_";
    size_t n = 5;

    if (name.len > sizeof(text) - 5) {
        /* longer names than anybody uses: still correct, only slower */
        PyObject *tail = latin1(name);
        PyObject *upper = tail ? PyObject_CallMethod(tail, "upper", NULL) : NULL;
        PyObject *dashed = upper ? PyObject_CallMethod(upper, "replace", "ss", "-", "_") : NULL;
        PyObject *key = dashed ? PyUnicode_FromFormat("HTTP_%U", dashed) : NULL;
        Py_XDECREF(tail);
        Py_XDECREF(upper);
        Py_XDECREF(dashed);
        return key;
    }
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        text[n++] = c >= 'a' && c <= 'z' ? (char)(c & ~0x20) : c == '-' ? '_' : c;
    }
    return PyUnicode_DecodeLatin1(text, (Py_ssize_t)n, NULL);
}

/** Headers that the application never sees under HTTP_; see the head of this file. */
static bool
is_dropped(struct span name)
{
    return memchr(name.ptr, '_', name.len) != NULL || http_name_is(name, "proxy", 5) ||
           http_name_is(name, "transfer-encoding", 17);
}

/** Fill a slot for a name not seen before. */
static int
slot_fill(struct loop *loop, struct header_slot *slot, struct span name)
{
    PyObject *const *keys = loop->module->keys;

    if (http_name_is(name, "content-type", 12))
        slot->key = Py_NewRef(keys[KEY_CONTENT_TYPE]);
    else if (http_name_is(name, "content-length", 14))
        slot->key = Py_NewRef(keys[KEY_CONTENT_LENGTH]);
    else
        slot->key = header_key(name);
    if (slot->key == NULL)
        return -1;
    PyUnicode_InternInPlace(&slot->key);
    slot->dropped = is_dropped(name);
    slot->len = (uint8_t)name.len;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        slot->name[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    loop->worker->slot_count++;
    return 0;
}

/** The slot of a header name; NULL without an exception if it gets none. */
static struct header_slot *
slot_find(struct loop *loop, struct span name)
{
    struct header_slot *slots = loop->worker->slots;
    uint32_t hash = 2166136261u;

    if (name.len > sizeof(slots->name))
        return NULL;
    for (size_t i = 0; i < name.len; i++)
        hash = (hash ^ ((unsigned char)name.ptr[i] | 0x20u)) * 16777619u;
    for (uint32_t i = hash & (HEADER_SLOTS - 1);; i = (i + 1) & (HEADER_SLOTS - 1)) {
        if (slots[i].key == NULL) {
            if (loop->worker->slot_count >= HEADER_SLOTS * 3 / 4)
                return NULL;
            return slot_fill(loop, &slots[i], name) < 0 ? NULL : &slots[i];
        }
        if (http_name_is(name, slots[i].name, slots[i].len))
            return &slots[i];
    }
}

/** The value of a header as str: the one of the last time, if it is the same again. */
static PyObject *
slot_value(struct header_slot *slot, struct span value)
{
    if (slot->value != NULL && (size_t)PyUnicode_GET_LENGTH(slot->value) == value.len &&
        memcmp(PyUnicode_1BYTE_DATA(slot->value), value.ptr, value.len) == 0)
        return Py_NewRef(slot->value);
    PyObject *text = latin1(value);
    if (text != NULL && value.len <= 256)
        Py_XSETREF(slot->value, Py_NewRef(text));
    return text;
}

/** Set a header, joining it to one of the same name that came before. */
static int
set_header(PyObject *environ, PyObject *key, PyObject *value)
{
    Py_ssize_t before = PyDict_GET_SIZE(environ);
    PyObject *first = PyDict_SetDefault(environ, key, value);

    if (first == NULL)
        return -1;
    if (PyDict_GET_SIZE(environ) > before)
        return 0;
    bool cookie = PyUnicode_CompareWithASCIIString(key, "HTTP_COOKIE") == 0;
    return set_new(environ, key, PyUnicode_FromFormat(cookie ? "%U; %U" : "%U, %U", first, value));
}

static int
add_header(struct loop *loop, PyObject *environ, const struct http_header *header)
{
    struct header_slot *slot = slot_find(loop, header->name);
    PyObject *key;
    PyObject *value;

    if (slot != NULL) {
        if (slot->dropped)
            return 0;
        key = Py_NewRef(slot->key);
        value = slot_value(slot, header->value);
    } else {
        if (PyErr_Occurred())
            return -1;
        if (is_dropped(header->name))
            return 0;
        key = header_key(header->name);
        value = latin1(header->value);
    }
    int result = key == NULL || value == NULL ? -1 : set_header(environ, key, value);
    Py_XDECREF(key);
    Py_XDECREF(value);
    return result;
}

/** The method as str; the frequent ones are not made anew. */
static PyObject *
method_of(PyObject *const *keys, struct span method)
{
    if (method.len == 3 && memcmp(method.ptr, "GET", 3) == 0)
        return Py_NewRef(keys[KEY_GET]);
    if (method.len == 4 && memcmp(method.ptr, "POST", 4) == 0)
        return Py_NewRef(keys[KEY_POST]);
    if (method.len == 4 && memcmp(method.ptr, "HEAD", 4) == 0)
        return Py_NewRef(keys[KEY_HEAD]);
    return latin1(method);
}

/** PATH_INFO: decoded, bytes as latin-1 (PEP 3333). The path was seen to be decodable before. */
static PyObject *
path_of(PyObject *const *keys, const struct http_request *request)
{
    if (request->plain_path) {
        if (request->path.len == 1)
            return Py_NewRef(keys[KEY_SLASH]);
        return latin1(request->path);
    }
    char *text = PyMem_Malloc(request->path.len);
    if (text == NULL)
        return PyErr_NoMemory();
    ptrdiff_t n = http_decode_path(request->path, text);
    PyObject *path = PyUnicode_DecodeLatin1(text, n > 0 ? (Py_ssize_t)n : 0, NULL);
    PyMem_Free(text);
    return path;
}

/** REQUEST_METHOD, REQUEST_URI, PATH_INFO, QUERY_STRING, SERVER_PROTOCOL. */
static int
add_request_line(struct loop *loop, PyObject *env, const struct http_request *r)
{
    PyObject *const *keys = loop->module->keys;
    PyObject *uri = r->target.len == 1 && r->target.ptr[0] == '/' ? Py_NewRef(keys[KEY_SLASH])
                                                                  : latin1(r->target);

    if (uri == NULL)
        return -1;
    PyObject *path =
        r->plain_path && r->path.len == r->target.len ? Py_NewRef(uri) : path_of(keys, r);
    PyObject *query = r->query.len == 0 ? Py_NewRef(keys[KEY_EMPTY]) : latin1(r->query);
    PyObject *version = keys[r->minor ? KEY_HTTP_11 : KEY_HTTP_10];
    int result = set_new(env, keys[KEY_REQUEST_URI], uri);
    if (set_new(env, keys[KEY_PATH_INFO], path) < 0)
        result = -1;
    if (set_new(env, keys[KEY_QUERY_STRING], query) < 0)
        result = -1;
    if (result < 0 || PyDict_SetItem(env, keys[KEY_SERVER_PROTOCOL], version) < 0)
        return -1;
    return set_new(env, keys[KEY_REQUEST_METHOD], method_of(keys, r->method));
}

/**
 * environ_remote() - make REMOTE_ADDR and REMOTE_PORT of a connection, once
 * @loop:	the loop
 * @conn:	the connection
 *
 * Return: 0, or -1 with an exception.
 */
int
environ_remote(struct loop *loop, struct conn *conn)
{
    PyObject *empty = loop->module->keys[KEY_EMPTY];
    char text[INET6_ADDRSTRLEN] = "";
    unsigned port = 0;

    if (conn->remote_addr != NULL)
        return 0;
    if (conn->peer.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &conn->peer.in.sin_addr, text, sizeof(text));
        port = ntohs(conn->peer.in.sin_port);
    } else if (conn->peer.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &conn->peer.in6.sin6_addr, text, sizeof(text));
        port = ntohs(conn->peer.in6.sin6_port);
    }
    conn->remote_port = port ? PyUnicode_FromFormat("%u", port) : Py_NewRef(empty);
    conn->remote_addr = text[0] ? PyUnicode_FromString(text) : Py_NewRef(empty);
    if (conn->remote_addr != NULL && conn->remote_port != NULL)
        return 0;
    Py_CLEAR(conn->remote_addr);
    Py_CLEAR(conn->remote_port);
    return -1;
}

/** The scheme that a proxy in front says it was asked with. */
static int
set_scheme(struct loop *loop, PyObject *env, enum key key, const char *yes)
{
    PyObject *value = PyDict_GetItemWithError(env, loop->module->keys[key]);

    if (value == NULL)
        return PyErr_Occurred() ? -1 : 0;
    if (PyUnicode_CompareWithASCIIString(value, yes) != 0)
        return 0;
    return PyDict_SetItem(env, loop->module->keys[KEY_WSGI_URL_SCHEME],
                          loop->module->keys[KEY_SCHEME_HTTPS]);
}

/** What only some requests have. */
static int
add_rest(struct loop *loop, PyObject *env, const struct http_request *r, uint64_t len)
{
    PyObject *const *keys = loop->module->keys;

    if (r->authority.len > 0 && set_new(env, keys[KEY_HTTP_HOST], latin1(r->authority)) < 0)
        return -1;
    if (r->chunked && set_new(env, keys[KEY_CONTENT_LENGTH],
                              PyUnicode_FromFormat("%llu", (unsigned long long)len)) < 0)
        return -1;
    if (loop->worker->threads > 1 &&
        set_new(env, keys[KEY_UWSGI_CORE], PyLong_FromLong(loop->core)) < 0)
        return -1;
    return set_scheme(loop, env, KEY_HTTP_X_FORWARDED_PROTO, "https");
}

/**
 * environ_http() - the environ of an HTTP request
 * @loop:	the loop, which holds the GIL
 * @conn:	its connection
 * @request:	the request
 * @input:	wsgi.input
 * @body_len:	length of the body
 *
 * Return: a new dict, or NULL with an exception.
 */
PyObject *
environ_http(struct loop *loop, struct conn *conn, const struct http_request *request,
             PyObject *input, uint64_t body_len)
{
    PyObject *const *keys = loop->module->keys;
    PyObject *env = PyDict_Copy(conn->listener->environ);

    if (env == NULL || environ_remote(loop, conn) < 0 || add_request_line(loop, env, request) < 0)
        goto fail;
    if (PyDict_SetItem(env, keys[KEY_REMOTE_ADDR], conn->remote_addr) < 0 ||
        PyDict_SetItem(env, keys[KEY_REMOTE_PORT], conn->remote_port) < 0 ||
        PyDict_SetItem(env, keys[KEY_WSGI_INPUT], input) < 0)
        goto fail;
    for (size_t i = 0; i < request->count; i++) {
        if (add_header(loop, env, &request->headers[i]) < 0)
            goto fail;
    }
    if (add_rest(loop, env, request, body_len) < 0)
        goto fail;
    return env;
fail:
    Py_XDECREF(env);
    return NULL;
}

/** Names that belong to the gateway and that no packet may set. */
static bool
is_reserved(struct span name)
{
    return (name.len > 5 && memcmp(name.ptr, "wsgi.", 5) == 0) ||
           (name.len > 6 && memcmp(name.ptr, "uwsgi.", 6) == 0);
}

static int
add_var(PyObject *env, const struct http_header *var)
{
    PyObject *key = latin1(var->name);
    PyObject *value = latin1(var->value);
    int result = -1;

    if (key != NULL)
        PyUnicode_InternInPlace(&key);
    if (key != NULL && value != NULL)
        result = PyDict_SetItem(env, key, value);
    Py_XDECREF(key);
    Py_XDECREF(value);
    return result;
}

/**
 * environ_uwsgi() - the environ of a uwsgi packet
 * @loop:	the loop, which holds the GIL
 * @conn:	its connection
 * @packet:	the packet
 * @input:	wsgi.input
 *
 * Return: a new dict, or NULL with an exception.
 */
PyObject *
environ_uwsgi(struct loop *loop, struct conn *conn, const struct uwsgi_packet *packet,
              PyObject *input)
{
    PyObject *const *keys = loop->module->keys;
    PyObject *env = PyDict_Copy(conn->listener->environ);

    if (env == NULL || PyDict_SetItem(env, keys[KEY_WSGI_INPUT], input) < 0)
        goto fail;
    for (size_t i = 0; i < packet->count; i++) {
        if (!is_reserved(packet->vars[i].name) && add_var(env, &packet->vars[i]) < 0)
            goto fail;
    }
    if (PyDict_SetDefault(env, keys[KEY_REQUEST_METHOD], keys[KEY_EMPTY]) == NULL ||
        PyDict_SetDefault(env, keys[KEY_PATH_INFO], keys[KEY_EMPTY]) == NULL ||
        PyDict_SetDefault(env, keys[KEY_QUERY_STRING], keys[KEY_EMPTY]) == NULL)
        goto fail;
    if (loop->worker->threads > 1 &&
        set_new(env, keys[KEY_UWSGI_CORE], PyLong_FromLong(loop->core)) < 0)
        goto fail;
    if (set_scheme(loop, env, KEY_HTTPS, "on") < 0 || set_scheme(loop, env, KEY_HTTPS, "1") < 0 ||
        set_scheme(loop, env, KEY_UWSGI_SCHEME, "https") < 0 ||
        set_scheme(loop, env, KEY_HTTP_X_FORWARDED_PROTO, "https") < 0)
        goto fail;
    return env;
fail:
    Py_XDECREF(env);
    return NULL;
}

/** Whether `path` is `mount` or below it. */
static bool
is_below(PyObject *path, PyObject *mount)
{
    Py_ssize_t n = PyUnicode_GET_LENGTH(mount);

    return PyUnicode_Tailmatch(path, mount, 0, PY_SSIZE_T_MAX, -1) == 1 &&
           (PyUnicode_GET_LENGTH(path) == n || PyUnicode_READ_CHAR(path, n) == '/');
}

/** Divide PATH_INFO at the mountpoint of an application. */
static int
move_mountpoint(Worker *worker, PyObject *env, PyObject *path, PyObject *mount)
{
    PyObject *const *keys = worker->module->keys;
    PyObject *rest = PyUnicode_Substring(path, PyUnicode_GET_LENGTH(mount), PY_SSIZE_T_MAX);

    if (set_new(env, keys[KEY_PATH_INFO], rest) < 0)
        return -1;
    return PyDict_SetItem(env, keys[KEY_SCRIPT_NAME], mount);
}

/** The application with the longest mountpoint above PATH_INFO. */
static int
find_by_path(Worker *worker, PyObject *env, PyObject *path)
{
    Py_ssize_t longest = -1;
    int best = -1;

    for (size_t i = 0; i < worker->application_count; i++) {
        PyObject *mount = worker->applications[i].script_name;
        if (PyUnicode_GET_LENGTH(mount) > longest && is_below(path, mount)) {
            longest = PyUnicode_GET_LENGTH(mount);
            best = (int)i;
        }
    }
    if (best < 0)
        return 0;
    if (longest > 0 &&
        move_mountpoint(worker, env, path, worker->applications[best].script_name) < 0)
        return -1;
    return best;
}

/**
 * environ_application() - which application answers
 * @worker:	the worker, with at least one application
 * @environ:	the environ; SCRIPT_NAME and PATH_INFO are changed if the path chooses
 * @manage:	manage-script-name, or modifier 30
 *
 * Return: its index (0, the first one, where nothing matches), or -1 with an exception.
 */
int
environ_application(Worker *worker, PyObject *environ, bool manage)
{
    PyObject *const *keys = worker->module->keys;

    if (worker->application_count == 1 &&
        PyUnicode_GET_LENGTH(worker->applications[0].script_name) == 0)
        return 0;
    if (manage) {
        PyObject *path = PyDict_GetItemWithError(environ, keys[KEY_PATH_INFO]);
        return path == NULL ? 0 : find_by_path(worker, environ, path);
    }
    PyObject *script = PyDict_GetItemWithError(environ, keys[KEY_SCRIPT_NAME]);
    for (size_t i = 0; script != NULL && i < worker->application_count; i++) {
        if (PyUnicode_Compare(script, worker->applications[i].script_name) == 0)
            return (int)i;
    }
    return 0;
}
