"""Resources in ARM's form, as `az iot hub show` and `az network private-endpoint show` print them.

Keys of policies are never part of it. Shapes: Microsoft.Devices/IotHubs 2023-06-30, Microsoft.Network/privateEndpoints.
"""

from isthmus.access.principal import Right, SharedAccessPolicy
from isthmus.base.places import RESOURCE_GROUP, SUBSCRIPTION
from isthmus.network.private_endpoints import PrivateEndpointConnection
from isthmus.network.rules import NetworkRules
from isthmus.resources.durations import format_duration
from isthmus.resources.endpoint_arm import endpoints_to_arm
from isthmus.resources.enrichments import enrichment_to_arm
from isthmus.resources.file_upload_arm import messaging_endpoints_to_arm, storage_endpoints_to_arm
from isthmus.resources.guarded import Guarded
from isthmus.resources.hub import CloudToDeviceSettings, Hub
from isthmus.resources.hub_identity import identity_to_arm
from isthmus.resources.routes import route_to_arm

HUB_TYPE = "Microsoft.Devices/IotHubs"


def hub_to_arm(hub: Hub) -> dict[str, object]:
    """The hub as a client reads it."""
    return {
        "id": hub.resource_id,
        "name": hub.name,
        "type": HUB_TYPE,
        "location": hub.location,
        "tags": dict(hub.tags),
        "etag": hub.etag,
        "resourcegroup": RESOURCE_GROUP,
        "subscriptionid": SUBSCRIPTION,
        "identity": identity_to_arm(hub.identity),
        "sku": {"name": hub.sku.name.value, "tier": hub.sku.tier, "capacity": hub.sku.units},
        "properties": _properties(hub),
    }


def connection_to_arm(resource: Guarded, connection: PrivateEndpointConnection) -> dict[str, object]:
    """A private endpoint connection as the resource's owner reads it."""
    return {
        "id": f"{resource.resource_id}/privateEndpointConnections/{connection.name}",
        "name": connection.name,
        "type": resource.kind.connection_type,
        "properties": {
            "privateEndpoint": {"id": connection.endpoint_id},
            "groupIds": [connection.group_id],
            "privateLinkServiceConnectionState": {
                "status": connection.status.value,
                "description": connection.description,
                "actionsRequired": "None",
            },
        },
    }


def link_resources_to_arm(resource: Guarded) -> list[dict[str, object]]:
    """What a private endpoint can lead to: the only group of its kind."""
    domain = resource.host_name.partition(".")[2] or resource.host_name
    group, kind = resource.kind.group_id, resource.kind.value
    return [
        {
            "id": f"{resource.resource_id}/privateLinkResources/{group}",
            "name": group,
            "type": f"{kind}/PrivateLinkResources",
            "properties": {
                "groupId": group,
                "requiredMembers": [group],
                "requiredZoneNames": [f"privatelink.{domain}"],
            },
        }
    ]


def policy_to_arm(policy: SharedAccessPolicy) -> dict[str, object]:
    """A policy without its keys."""
    rights = ", ".join(right.value for right in Right if right in policy.rights)
    return {"keyName": policy.name, "primaryKey": None, "secondaryKey": None, "rights": rights}


def _properties(hub: Hub) -> dict[str, object]:
    return {
        "allowedFqdnList": list(hub.allowed_fqdns),
        "authorizationPolicies": [policy_to_arm(policy) for policy in hub.policies],
        "cloudToDevice": _cloud_to_device(hub.cloud_to_device),
        "comments": "",
        "disableDeviceSAS": not hub.local_auth.devices,
        "disableLocalAuth": not hub.local_auth.policies,
        "disableModuleSAS": not hub.local_auth.modules,
        "enableDataResidency": False,
        "enableFileUploadNotifications": hub.file_upload.notify,
        "eventHubEndpoints": {"events": _events(hub)},
        "features": "None",
        "hostName": hub.host_name,
        "ipFilterRules": [],
        "locations": [{"location": hub.location, "role": "primary"}],
        "messagingEndpoints": messaging_endpoints_to_arm(hub.file_upload),
        "minTlsVersion": "1.2",
        "networkRuleSets": _rules(hub.rules) if hub.rules is not None else None,
        "privateEndpointConnections": [connection_to_arm(hub, connection) for connection in hub.connections],
        "provisioningState": "Succeeded",
        "publicNetworkAccess": "Enabled" if hub.public_network_access else "Disabled",
        "restrictOutboundNetworkAccess": hub.restrict_outbound,
        "routing": {
            "endpoints": endpoints_to_arm(hub),
            "enrichments": [enrichment_to_arm(each) for each in hub.enrichments],
            "fallbackRoute": route_to_arm(hub.fallback_route),
            "routes": [route_to_arm(route) for route in hub.routes],
        },
        "state": "Active",
        "storageEndpoints": storage_endpoints_to_arm(hub.file_upload),
    }


def _cloud_to_device(settings: CloudToDeviceSettings) -> dict[str, object]:
    return {
        "defaultTtlAsIso8601": format_duration(settings.default_ttl_ms),
        "feedback": {
            "lockDurationAsIso8601": format_duration(settings.feedback.lock_ms),
            "maxDeliveryCount": settings.feedback.max_delivery_count,
            "ttlAsIso8601": format_duration(settings.feedback.ttl_ms),
        },
        "maxDeliveryCount": settings.max_delivery_count,
    }


def _events(hub: Hub) -> dict[str, object]:
    return {
        "endpoint": f"sb://{hub.host_name}/",
        "partitionCount": hub.partitions,
        "partitionIds": [str(number) for number in range(hub.partitions)],
        "path": hub.name,
        "retentionTimeInDays": hub.retention_days,
    }


def _rules(rules: NetworkRules) -> dict[str, object]:
    return {
        "applyToBuiltInEventHubEndpoint": rules.apply_to_built_in,
        "defaultAction": rules.default_action.value,
        "ipRules": [{"action": "Allow", "filterName": rule.name, "ipMask": rule.mask} for rule in rules.ip_rules],
    }
