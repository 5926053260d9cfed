/* http_chunked.c - bodies in chunks (RFC 9112, section 7.1), decoded as they come. See http.h. */
#include "http.h"
#include "http_text.h"

/** States of the chunked decoder: what the next byte is. */
enum chunk_state {
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER, /* first byte of a trailer line */
    CHUNK_TRAILER_NAME,
    CHUNK_TRAILER_VALUE,
    CHUNK_TRAILER_LF,
    CHUNK_LAST_LF,
    CHUNK_FINISHED,
};

#define CHUNK_MAX_DIGITS 15  /* 2^60: no sum of it overflows */
#define CHUNK_MAX_EXTRA 8192 /* extensions and trailers, which nobody sees */

/** The size line: hexadecimal digits, then CR or an extension. */
static int
chunk_size_byte(struct http_chunked *k, char c)
{
    int digit = hex_value(c);

    if (digit >= 0) {
        if (++k->digits > CHUNK_MAX_DIGITS)
            return 400;
        k->left = k->left * 16 + (uint64_t)digit;
        return HTTP_OK;
    }
    if (k->digits == 0 || (c != '\r' && c != ';'))
        return 400;
    k->state = c == '\r' ? CHUNK_SIZE_LF : CHUNK_EXTENSION;
    return HTTP_OK;
}

/** One byte of framing (anything but payload). */
static int
chunk_byte(struct http_chunked *k, char c)
{
    switch (k->state) {
    case CHUNK_SIZE:
        return chunk_size_byte(k, c);
    case CHUNK_EXTENSION:
        if (c == '\r')
            k->state = CHUNK_SIZE_LF;
        return (c == '\r' || is_class(c, VALUE)) && ++k->extra <= CHUNK_MAX_EXTRA ? HTTP_OK : 400;
    case CHUNK_SIZE_LF:
        k->state = k->left > 0 ? CHUNK_DATA : CHUNK_TRAILER;
        return c == '\n' ? HTTP_OK : 400;
    case CHUNK_DATA_CR:
        k->state = CHUNK_DATA_LF;
        return c == '\r' ? HTTP_OK : 400;
    case CHUNK_DATA_LF:
        k->state = CHUNK_SIZE;
        k->digits = 0;
        return c == '\n' ? HTTP_OK : 400;
    case CHUNK_TRAILER:
        k->state = c == '\r' ? CHUNK_LAST_LF : CHUNK_TRAILER_NAME;
        return (c == '\r' || is_class(c, TOKEN)) && ++k->extra <= CHUNK_MAX_EXTRA ? HTTP_OK : 400;
    case CHUNK_TRAILER_NAME:
        if (c == ':')
            k->state = CHUNK_TRAILER_VALUE;
        return (c == ':' || is_class(c, TOKEN)) && ++k->extra <= CHUNK_MAX_EXTRA ? HTTP_OK : 400;
    case CHUNK_TRAILER_VALUE:
        if (c == '\r')
            k->state = CHUNK_TRAILER_LF;
        return (c == '\r' || is_class(c, VALUE)) && ++k->extra <= CHUNK_MAX_EXTRA ? HTTP_OK : 400;
    case CHUNK_TRAILER_LF:
        k->state = CHUNK_TRAILER;
        return c == '\n' ? HTTP_OK : 400;
    case CHUNK_LAST_LF:
        k->state = CHUNK_FINISHED;
        return c == '\n' ? HTTP_DONE : 400;
    default:
        return 400;
    }
}

/**
 * http_chunked_next() - decode the next piece of a chunked body
 * @chunked:	the decoder, all zeros before the first byte
 * @in:		bytes received
 * @len:	how many
 * @used:	set to how many of them were taken
 * @data:	set to the payload found, which lies in @in; empty unless HTTP_OK is returned
 *
 * Return: HTTP_OK with payload (call again with the rest), HTTP_MORE if all was taken, HTTP_DONE
 *	   at the end of the body (what is left in @in belongs to the next request), or 400.
 */
int
http_chunked_next(struct http_chunked *chunked, const char *in, size_t len, size_t *used,
                  struct span *data)
{
    size_t i = 0;

    *data = (struct span){in, 0};
    while (i < len) {
        if (chunked->state == CHUNK_DATA) {
            size_t n = len - i;
            if ((uint64_t)n > chunked->left)
                n = (size_t)chunked->left;
            *data = (struct span){in + i, n};
            chunked->left -= n;
            if (chunked->left == 0)
                chunked->state = CHUNK_DATA_CR;
            *used = i + n;
            return HTTP_OK;
        }
        int result = chunk_byte(chunked, in[i++]);
        if (result != HTTP_OK) {
            *used = i;
            return result;
        }
    }
    *used = len;
    return HTTP_MORE;
}
