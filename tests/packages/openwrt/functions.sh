# Stands in for OpenWrt's /lib/functions.sh: what racerd's init script and the scripts of its package use, to the same effect.

config_load() { CONFIG=/etc/config/$1; }

# config_get VARIABLE SECTION OPTION DEFAULT: racerd's configuration has one section only.
config_get() {
	eval "$1=\"\$(sed -n \"s/^[[:space:]]*option $3 '\(.*\)'\$/\\1/p\" \"$CONFIG\")\"; $1=\"\${$1:-\$4}\""
}
config_get_bool() { config_get "$@"; }

package_of() { basename "${1%.*}"; }

# default_postinst SCRIPT ARGUMENTS: makes the user that the package requires; enables and starts its init scripts.
default_postinst() {
	local package info name id script
	package=$(package_of "$1")
	info=/usr/lib/opkg/info/$package
	# USER=ID:GROUP=ID
	name=$(sed -n 's/^Require-User: *\([^=]*\)=.*/\1/p' "$info.control")
	id=$(sed -n 's/^Require-User: *[^=]*=\([0-9]*\):.*/\1/p' "$info.control")
	if [ -n "$name" ] && ! grep -q "^$name:" /etc/passwd; then
		echo "$name:x:$id:$id:$name:/var/run/$name:/bin/false" >>/etc/passwd
		echo "$name:x:0:0:99999:7:::" >>/etc/shadow
		echo "$name:x:$id:$name" >>/etc/group
	fi
	# shellcheck disable=SC2013 # their names have no spaces
	for script in $(grep '^/etc/init.d/' "$info.list"); do
		[ "$PKG_UPGRADE" = 1 ] || "$script" enable
		"$script" start
	done
}

# default_prerm SCRIPT ARGUMENTS
default_prerm() {
	local script
	# shellcheck disable=SC2013
	for script in $(grep '^/etc/init.d/' "/usr/lib/opkg/info/$(package_of "$1").list"); do
		[ "$PKG_UPGRADE" = 1 ] || "$script" disable
		"$script" stop
	done
}
