"""A file system that can lose power: on a loop device, cut by the kernel's own shutdown call.

Needs root and loop devices. Mounts live in the mount namespace of the script that started this
(see `own_mounts` in lib.sh): they end with it, however it ends, and the loop devices with them.
"""
import fcntl, os, struct, subprocess, time  # noqa: E401

FS_IOC_SHUTDOWN = 0x8004587D
# What is lost. `flushed`: the journal is written out first, so names and sizes are there and
# data that nobody synced is not. `dropped`: everything since the last commit of the journal.
MODES = {"flushed": 1, "dropped": 2}
FORMATS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}
SIZE_BYTES = 4 << 30


class Disk:
    """A new file system of a kind, mounted at `path`."""

    def __init__(self, kind, folder):
        self.kind, self.image = kind, os.path.join(folder, f"{kind}.image")
        self.path = os.path.join(folder, kind)
        self.canary = os.path.join(self.path, "canary")
        os.makedirs(self.path, exist_ok=True)
        with open(self.image, "wb") as file:
            file.truncate(SIZE_BYTES)
        subprocess.run([*FORMATS[kind], self.image], check=True)
        self.mount()

    def mount(self):
        # The loop device ends with the mount.
        subprocess.run(["mount", "-o", "loop", self.image, self.path], check=True)

    def unmount(self):
        for attempt in range(50):
            done = subprocess.run(["umount", self.path], capture_output=True, text=True)
            if done.returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"umount {self.path}: {done.stderr}")

    def cut(self, mode):
        """From here on nothing reaches the device."""
        with open(self.canary, "wb") as file:
            file.write(b"never synced")
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, FS_IOC_SHUTDOWN, struct.pack("I", MODES[mode]))
        finally:
            os.close(folder)

    def restore(self):
        """Power is back: the journal is replayed."""
        self.unmount()
        self.mount()
        if os.path.exists(self.canary):
            with open(self.canary, "rb") as file:
                if file.read() == b"never synced":
                    raise RuntimeError("the cut was none: what nobody synced is there")
            os.remove(self.canary)

    def remove(self):
        self.unmount()
        os.remove(self.image)
