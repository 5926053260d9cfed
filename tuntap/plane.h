/* plane.h - the ports of a router and the loop over them.
 *
 * DOC: Theory of Operation
 *
 * A port is a tun device, whose packets carry a virtio header, a stream of frames, or the socket
 * of a gateway. Some are outside: the router's own device, the gateway, and trunks, streams of
 * frames from another router. Between two of these nothing passes. A turn waits in epoll and gives
 * each port that has something a share of bytes; what is left stays readable and is seen by the
 * next turn, so that a flood waits behind everybody else's first packets.
 *
 * Packets are read into one buffer and written from it. Nothing is allocated for a packet. What a
 * receiver does not take at once is dropped, or waits in the receiver's own queue (a stream of
 * frames, a port whose bandwidth is limited): the sender and all others go on.
 *
 * Adding and removing ports, listeners and everything rare is the caller's: plane_turn() returns
 * when there is something for it.
 */
#ifndef DONJON_PLANE_H
#define DONJON_PLANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addresses.h"
#include "bucket.h"
#include "capture.h"
#include "counters.h"
#include "firewall.h"
#include "gateway.h"
#include "networks.h"
#include "notes.h"
#include "offload.h"
#include "packet.h"
#include "queue.h"

#define PLANE_PORTS FLOW_JAILS
#define PLANE_EVENTS 128
#define MOST_EVENTS 256U /* of a turn: those of epoll, and ports that die by a write */
#define LARGEST_PACKET 65535
#define LARGEST_FRAME 8188 /* of a packet; the original's buffers are 8192 (uwsgi-facts 5.1) */
#define FRAME_HEADER 4

enum port_kind { PORT_TUN, PORT_STREAM, PORT_GATEWAY };

struct port {
    uint32_t number;
    int fd;
    enum port_kind kind;
    bool outside;   /* no jail: the host, a gateway, another router */
    bool learns;    /* owns the first address of each family that it uses */
    bool learnt[2]; /* IPv4, IPv6 */
    bool paused;    /* reading waits for bandwidth */
    bool blocked;   /* writing waits for the peer */
    bool waiting;   /* in the list of ports that wait for bandwidth, or for the next turn */
    bool dirty;     /* in the list of ports with frames to be sent */
    bool gone;      /* told to the caller, who removes it */
    struct bucket out;
    struct bucket into;
    struct queue queue; /* frames, or packets that wait for bandwidth */
    uint8_t *partial;   /* what was read of a frame */
    size_t have;
};

/** What the caller must look at: a descriptor of its own that is readable, or a dead port. */
struct plane_event {
    bool gone;
    uint32_t number;
};

struct plane {
    int epoll;
    bool bridge;   /* two ports, 0 and 1, and no questions: the client's side of a stream */
    bool unserved; /* frames were read that the next turn serves: it does not sleep */
    uint64_t now;
    bool brisk;                /* the last sleep was short: it looks again before the next one */
    uint32_t doubt;            /* how often looking again was for nothing, since it was not */
    uint32_t unlooked;         /* turns that sleep at once, for that doubt */
    struct counters *counters; /* PLANE_PORTS of them */
    struct firewall *firewall; /* NULL: nothing passes */
    uint32_t *caps;            /* of connections, by port; 0: none */
    int notes;                 /* where packets that rules note are told; -1: nowhere */
    uint64_t lost_since;       /* since when some were not told; 0: none */
    struct addresses addresses;
    struct networks allotted; /* to trunks, whether there are such now or not */
    struct routes routes;
    uint32_t gateway; /* the port, or NOBODY */
    struct capture capture;
    struct port **ports;
    uint32_t *waiting; /* ports, served by the next turn */
    uint32_t *waited;  /* those that this turn serves */
    size_t waiting_count;
    uint32_t *dirty;
    size_t dirty_count;
    struct plane_event events[MOST_EVENTS];
    size_t event_count;
    uint8_t buffer[sizeof(struct virtio_net_hdr) + LARGEST_PACKET + 1];
    uint8_t scratch[LARGEST_PACKET];
};

int plane_init(struct plane *plane, struct counters *counters, uint64_t secret, bool bridge);
void plane_free(struct plane *plane);
int plane_watch(struct plane *plane, int fd);
int plane_unwatch(struct plane *plane, int fd);
struct port *plane_add(struct plane *plane, uint32_t number, int fd, enum port_kind kind);
void plane_cap(struct plane *plane, uint32_t number, uint32_t connections);
int plane_limit(struct port *port, const uint64_t limits[4]);
void plane_remove(struct plane *plane, uint32_t number);
bool plane_own(struct plane *plane, uint32_t number, const uint8_t address[16]);
int plane_turn(struct plane *plane);
uint64_t plane_clock(void);

/* For the files of the plane alone. */
void plane_drop(struct plane *plane, uint32_t number, enum drop cause);
void plane_gone(struct plane *plane, struct port *port);
void plane_wait(struct plane *plane, struct port *port);
int plane_arm(struct plane *plane, struct port *port);
void forward(struct plane *plane, struct port *from, struct virtio_net_hdr *header,
             const uint8_t *bytes, size_t size);
void tunnel_read(struct plane *plane, struct port *port);
void tunnel_write(struct plane *plane, struct port *port, const struct virtio_net_hdr *header,
                  const uint8_t *bytes, size_t size);
void tunnel_serve(struct plane *plane, struct port *port);
void gateway_read(struct plane *plane, struct port *port);
bool gateway_write(struct plane *plane, struct port *port, const struct flow *flow,
                   const uint8_t *bytes, size_t size);
void frames_serve(struct plane *plane, struct port *port);
void frames_read(struct plane *plane, struct port *port);
bool frames_write(struct plane *plane, struct port *port, const uint8_t *bytes, size_t size);
void frames_flush(struct plane *plane, struct port *port);

/** What a turn of a port costs, in bytes; a packet costs as if it were this much longer. */
#define TURN_SHARE 131072
#define PACKET_COST 4096

/** Count a packet that a port received. */
static inline void
plane_received(struct plane *plane, const struct port *port, size_t size)
{
    plane->counters[port->number].in_packets++;
    plane->counters[port->number].in_bytes += size;
}

#endif
